"""An utterance and a speaker's habits -> a pose for each video frame: speech, blinks, gaze, brows, head."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from lipsound2.simulate.figure import Pose
from lipsound2.simulate.mouth import Articulation
from lipsound2.simulate.visemes import CONTACTS, ORGANS, articulate
from lipsound2.simulate.voice import Timed, Utterance

BLINK = np.array([(-0.08, 0.0), (0.0, 1.0), (0.05, 1.0), (0.12, 0.5), (0.22, 0.0)])
"""Seconds from the closing of the lids, and how far they are closed."""


@dataclass(frozen=True)
class Habits:
    """How a speaker moves.

    Attributes:
        clarity: Range of the movements of jaw and lips; 1 is average.
        liveliness: Range of the movements of the head, in degrees of yaw.
        blinks: Blinks a second.
        facing: Yaw, pitch and roll in which the head is held, in degrees.
    """

    clarity: float = 1.0
    liveliness: float = 2.5
    blinks: float = 0.25
    facing: tuple[float, float, float] = (0.0, 0.0, 0.0)


def perform(utterance: Utterance, habits: Habits, frames: int, fps: int, rng: np.random.Generator) -> list[Pose]:
    """Find a pose for the middle of each frame.

    Args:
        utterance: What is said and when.
        habits: How the speaker moves.
        frames: How many frames the clip has.
        fps: Frames a second.
        rng: Where blinks, glances and movements of the head come from.
    """
    times = (np.arange(frames) + 0.5) / fps
    organs = articulate(utterance.phones, times, frames / fps)
    free = [i for i, organ in enumerate(ORGANS) if organ not in CONTACTS]
    organs[:, free] *= habits.clarity * (1 + 0.05 * _wander(frames, 4.0, rng, len(free)))
    beats = _beats(utterance.phones, times)
    turn = habits.facing + habits.liveliness * _wander(frames, 14.0, rng, 3) * [1.0, 0.6, 0.5]
    turn[:, 1] += 0.5 * habits.liveliness * beats
    sway = 0.04 * _wander(frames, 20.0, rng, 3)
    units = _eyes(times, habits, rng) | _brows(beats, frames, rng)
    return [
        Pose(
            Articulation(*np.clip(row, 0, 1.15).tolist()),
            {name: float(values[i]) for name, values in units.items()},
            tuple(turn[i].tolist()),
            tuple(sway[i].tolist()),
        )
        for i, row in enumerate(organs)
    ]


def _wander(frames: int, width: float, rng: np.random.Generator, channels: int) -> Float[np.ndarray, "frames channels"]:
    """Make smooth noise of unit variance that changes over about `width` frames."""
    margin = int(4 * width)
    white = rng.standard_normal((frames + 2 * margin, channels))
    smooth = gaussian_filter1d(white, width, axis=0)[margin : margin + frames]
    return smooth * np.sqrt(2 * width * np.sqrt(np.pi))


def _beats(phones: list[Timed], times: Float[np.ndarray, " frames"]) -> Float[np.ndarray, " frames"]:
    """Mark the stressed syllables with bumps of 0.3 s."""
    marks = [phone.start for phone in phones if phone.stressed]
    return sum((np.exp(-(((times - mark) / 0.15) ** 2)) for mark in marks), np.zeros(len(times)))


def _eyes(times: Float[np.ndarray, " frames"], habits: Habits, rng: np.random.Generator) -> dict[str, np.ndarray]:
    lids = np.zeros(len(times))
    moment = rng.exponential(1 / habits.blinks)
    while moment < times[-1]:
        lids = np.maximum(lids, np.interp(times - moment, *BLINK.T))
        moment += 0.4 + rng.exponential(1 / habits.blinks)
    changes = np.cumsum(rng.exponential(0.9, 40))
    glances = rng.normal(0, 0.10, (len(changes) + 1, 2))[np.searchsorted(changes, times)]
    across, up = glances.T
    return {
        "eyeBlinkLeft": lids,
        "eyeBlinkRight": lids,
        "eyeLookInLeft": across.clip(0),
        "eyeLookOutRight": across.clip(0),
        "eyeLookOutLeft": (-across).clip(0),
        "eyeLookInRight": (-across).clip(0),
        "eyeLookUpLeft": up.clip(0),
        "eyeLookUpRight": up.clip(0),
        "eyeLookDownLeft": (-up).clip(0),
        "eyeLookDownRight": (-up).clip(0),
    }


def _brows(beats: Float[np.ndarray, " frames"], frames: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    lift = (0.15 * _wander(frames, 12.0, rng, 1)[:, 0] + 0.12 * beats).clip(-0.2, 0.6)
    raised, lowered = lift.clip(0), (-lift).clip(0)
    return {
        "browInnerUp": raised,
        "browOuterUpLeft": raised,
        "browOuterUpRight": raised,
        "browDownLeft": lowered,
        "browDownRight": lowered,
    }
