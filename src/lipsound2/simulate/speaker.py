"""A seed and a number -> a speaker: face, colours, hair, voice, habits, room; and how each clip of them differs."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lipsound2.simulate.backdrop import ROOMS, Room
from lipsound2.simulate.camera import Camera
from lipsound2.simulate.figure import Identity
from lipsound2.simulate.lens import Lens
from lipsound2.simulate.paint import Look
from lipsound2.simulate.performance import Habits
from lipsound2.simulate.shade import Light
from lipsound2.simulate.voice import Manner, voices

UNUSED_VOICES = ("af_nicole", "am_santa")
"""One whispers, the other plays a role."""
ORIGINS = ("caucasian", "african", "asian")
"""The names of the mesh's own morphs, mixed in any share; skin and hair follow the mix, loosely."""
SKIN_OF_ORIGIN = np.array([0.12, 0.78, 0.30])
MORPHS = (
    ("head/head-scale-horiz", 0.25),
    ("head/head-scale-vert", 0.25),
    ("head/head-fat", 0.25),
    ("nose/nose-hump", 0.35),
    ("nose/nose-scale-horiz", 0.3),
    ("nose/nose-scale-vert", 0.3),
    ("nose/nose-point-width", 0.3),
    ("nose/nose-volume", 0.25),
    ("mouth/mouth-scale-horiz", 0.2),
    ("mouth/mouth-upperlip-volume", 0.25),
    ("mouth/mouth-lowerlip-volume", 0.25),
    ("chin/chin-width", 0.3),
    ("chin/chin-height", 0.25),
    ("chin/chin-prominent", 0.3),
    ("cheek/{}-cheek-bones", 0.35),
    ("cheek/{}-cheek-volume", 0.3),
    ("eyes/{}-eye-scale", 0.25),
)
"""Pairs of morphs, ...-decr and ...-incr, and the standard deviation of their strength; {} is l and r."""
HEAD_SHAPES = ("oval", "rectangular", "round", "square", "triangular", "diamond", "invertedtriangular")
HAIR_COLOURS = ((0.07, 0.06, 0.06), (0.14, 0.09, 0.06), (0.26, 0.17, 0.10), (0.45, 0.32, 0.18), (0.42, 0.20, 0.10))
EYE_COLOURS = ((0.25, 0.16, 0.09), (0.36, 0.25, 0.14), (0.30, 0.38, 0.26), (0.32, 0.45, 0.58), (0.42, 0.48, 0.52))


@dataclass(frozen=True)
class Speaker:
    """Someone who does not exist.

    Attributes:
        woman: Whether face and voice are a woman's.
        identity: Shape of the face.
        look: Colours and hair.
        manner: Voice and usual rate and pitch.
        habits: How the speaker moves.
        light: The lights where the speaker sits.
        camera: The camera before which the speaker sits.
        lens: What that camera does to frames.
        room: What is behind the speaker.
        wall: Colour of the wall in linear light.
        hum: Level of the noise in the room, as a share of full scale.
    """

    woman: bool
    identity: Identity
    look: Look
    manner: Manner
    habits: Habits
    light: Light
    camera: Camera
    lens: Lens
    room: Room
    wall: tuple[float, float, float]
    hum: float


class Take(NamedTuple):
    """How one clip of a speaker is said, lit and filmed."""

    manner: Manner
    habits: Habits
    light: Light
    camera: Camera
    lens: Lens


def make_speaker(seed: int, number: int, size: int, difficulty: float) -> Speaker:
    """Draw a random speaker.

    Args:
        seed: Seed of the corpus.
        number: Number of the speaker, from 0; women and men take turns.
        size: Side of the frames in pixels.
        difficulty: From 0, a studio, to 1, homes and cheap cameras, or more.
    """
    rng = np.random.default_rng([seed, number, 1])
    woman = number % 2 == 0
    share = rng.dirichlet([0.45] * len(ORIGINS))
    skin = float(np.clip(share @ SKIN_OF_ORIGIN + rng.normal(0, 0.06), 0, 1))
    voice = _voice(seed, number, woman)
    return Speaker(
        woman=woman,
        identity=_identity(rng, woman, share),
        look=_look(rng, woman, skin, float(share[0])),
        manner=Manner(voice, rate=rng.uniform(0.85, 1.1), pitch=float(np.clip(rng.normal(1, 0.04), 0.9, 1.1))),
        habits=Habits(rng.uniform(0.8, 1.2), rng.uniform(1, 4), rng.uniform(0.12, 0.4)),
        light=_light(rng, difficulty),
        camera=Camera(size, rng.uniform(0.58, 0.8), rng.uniform(7, 16)),
        lens=_lens(rng, difficulty, size),
        room=ROOMS[rng.integers(len(ROOMS))],
        wall=_muted(rng, rng.uniform(0.08, 0.45)),
        hum=10 ** float(rng.uniform(-3.6, -3.6 + 0.8 * difficulty)),
    )


def make_take(speaker: Speaker, rng: np.random.Generator, difficulty: float) -> Take:
    """Vary what differs from one clip of a speaker to the next."""
    manner = speaker.manner._replace(
        rate=speaker.manner.rate * rng.uniform(0.93, 1.07),
        lead=rng.uniform(0.2, 0.45),
        tail=rng.uniform(0.25, 0.5),
    )
    facing = rng.normal(0, [5.0, 2.5, 1.5]) * (0.4 + 0.6 * difficulty)
    strength = rng.normal(1, 0.06 * difficulty)
    return Take(
        manner,
        replace(speaker.habits, facing=tuple(facing.tolist())),
        replace(speaker.light, key_colour=tuple(np.multiply(speaker.light.key_colour, strength).tolist())),
        replace(
            speaker.camera,
            share=speaker.camera.share * rng.uniform(0.95, 1.05),
            offset=(rng.normal(0, 0.02), rng.normal(0.02, 0.02)),
        ),
        replace(
            speaker.lens,
            exposure=speaker.lens.exposure * float(np.exp(rng.normal(0, 0.06 * difficulty))),
            crf=int(np.clip(speaker.lens.crf + rng.integers(-2, 3), 16, 36)),
        ),
    )


def _voice(seed: int, number: int, woman: bool) -> str:
    """Deal the voices out so that none returns before all of that sex have been used."""
    mine = [name for name in voices() if (name[1] == "f") == woman and name not in UNUSED_VOICES]
    order = np.random.default_rng([seed, woman, 2]).permutation(len(mine))
    return mine[order[number // 2 % len(mine)]]


def _identity(rng: np.random.Generator, woman: bool, share: np.ndarray) -> Identity:
    sex = "female" if woman else "male"
    age = float(rng.beta(1.2, 2.5)) * 0.8
    morphs: dict[str, float] = {}
    for stage, years in (("young", 1 - age), ("old", age)):
        morphs[f"macrodetails/universal-{sex}-{stage}-averagemuscle-averageweight"] = years
        for origin, part in zip(ORIGINS, share, strict=True):
            morphs[f"macrodetails/{origin}-{sex}-{stage}"] = years * float(part)
    morphs[f"head/head-{HEAD_SHAPES[rng.integers(len(HEAD_SHAPES))]}"] = rng.uniform(0, 0.35)
    for name, spread in MORPHS:
        strength = float(np.clip(rng.normal(0, spread), -2 * spread, 2 * spread))
        ending = "incr" if strength > 0 else "decr"
        for side in ("l", "r") if "{}" in name else ("",):
            morphs[f"{name.format(side)}-{ending}"] = abs(strength)
    smile = rng.normal(0.07, 0.05, 2).clip(0, 0.2)
    return Identity(morphs, {"mouthSmileLeft": float(smile[0]), "mouthSmileRight": float(smile[1])})


def _look(rng: np.random.Generator, woman: bool, skin: float, european: float) -> Look:
    fair_hair = rng.random() < european
    hair = HAIR_COLOURS[rng.integers(len(HAIR_COLOURS)) if fair_hair else rng.integers(2)]
    eyes = EYE_COLOURS[rng.integers(len(EYE_COLOURS)) if fair_hair else rng.integers(2)]
    long_hair = woman and rng.random() < 0.65
    return Look(
        skin=skin,
        blush=rng.uniform(0.2, 0.8),
        lips=rng.uniform(0.3, 0.9) if woman else rng.uniform(0.1, 0.5),
        hair=hair,
        hair_length=rng.uniform(0.3, 0.6) if woman else float(rng.choice([0.02, 0.15, 0.35, 0.5])),
        curtain=rng.uniform(0.7, 1.35) if long_hair else 0.0,
        hairline=rng.uniform(-0.03, 0.05) if woman else rng.uniform(-0.02, 0.2),
        brows=rng.uniform(0.6, 1.0),
        lashes=rng.uniform(0.6, 0.95) if woman else rng.uniform(0.2, 0.5),
        stubble=0.0 if woman else float(rng.choice([0.0, 0.15, 0.4, 0.8])),
        iris=eyes,
        freckles=rng.uniform(0, 0.6) * (1 - skin),
        shirt=_muted(rng, rng.uniform(0.08, 0.7)),
        stripes=float(rng.choice([0.0, 0.0, 0.8])),
        roughness=rng.uniform(0.3, 1.0),
    )


def _light(rng: np.random.Generator, difficulty: float) -> Light:
    side = rng.choice([-1, 1]) * rng.uniform(0.1, 0.35 + 0.5 * difficulty)
    warmth = rng.normal(0, 0.06 * difficulty)
    tint = np.array([1 + warmth, 1, 1 - warmth])
    strength = rng.uniform(0.55, 0.85)
    fill = rng.uniform(0.08, 0.25)
    sky = rng.uniform(0.16, 0.32)
    return Light(
        key=(float(side), rng.uniform(0.2, 0.7), 0.8),
        key_colour=tuple((strength * tint).tolist()),
        fill=(float(-np.sign(side)) * 0.7, rng.uniform(-0.1, 0.4), 0.6),
        fill_colour=tuple((fill / tint).tolist()),
        above=tuple((sky * tint[::-1]).tolist()),
        below=tuple((0.5 * sky * tint).tolist()),
    )


def _lens(rng: np.random.Generator, difficulty: float, size: int) -> Lens:
    pixel = size / 256
    return Lens(
        exposure=float(np.exp(rng.normal(0, 0.12 * difficulty))),
        balance=tuple((1 + rng.normal(0, 0.03 * difficulty, 3)).tolist()),
        blur=pixel * rng.uniform(0.2, 0.4 + 0.5 * difficulty),
        detail=1 - rng.uniform(0, 0.35 * difficulty) if rng.random() < 0.5 else 1.0,
        noise=rng.uniform(0.005, 0.01 + 0.06 * difficulty),
        flicker=rng.uniform(0, 0.008 * difficulty),
        vignette=rng.uniform(0, 0.25 * difficulty),
        crf=int(rng.integers(19, 21 + round(9 * difficulty))),
    )


def _muted(rng: np.random.Generator, brightness: float) -> tuple[float, float, float]:
    """Return a colour of modest saturation."""
    grey = rng.uniform(0.0, 0.7)
    colour = brightness * (grey + (1 - grey) * rng.uniform(0.35, 1, 3))
    return tuple(colour.tolist())
