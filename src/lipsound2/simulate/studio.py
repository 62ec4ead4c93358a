"""The number of a clip -> its speaker, its sentence, its audio and its frames.

Everything random comes from the seed of the corpus and the numbers of the speaker and of the clip, so
that clip k is the same whatever was made before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from scipy.signal import lfilter

from lipsound2.corpora.clip import split_by_hash
from lipsound2.errors import ConfigError
from lipsound2.media import Image, Samples
from lipsound2.simulate.backdrop import Backdrop, furnish
from lipsound2.simulate.camera import take
from lipsound2.simulate.figure import Figure, Pose
from lipsound2.simulate.lens import record
from lipsound2.simulate.performance import perform
from lipsound2.simulate.sentences import Sentence, grammar
from lipsound2.simulate.speaker import Speaker, Take, make_speaker, make_take
from lipsound2.simulate.voice import SAMPLE_RATE, Kokoro, Utterance

FPS = 25
LOUDNESS = 0.07
"""Root mean square of the speech, as a share of full scale."""


@dataclass(frozen=True)
class SimulateConfig:
    """Describe a simulated corpus; clips may be added later, all else makes another corpus.

    Attributes:
        clips: How many clips there are; they take turns among the speakers.
        speakers: How many speakers there are.
        grammar: `grid`, `letters`, `digits` or `english`.
        text: A file with one sentence a line, in place of the grammar.
        seed: Where everything random comes from.
        size: Side of the frames in pixels, even.
        difficulty: 0 is a studio, 1 homes and cheap cameras.
        val: Share of the sentences held out for validation.
        test: Share of the sentences held out for testing.
    """

    clips: int = 500
    speakers: int = 8
    grammar: str = "grid"
    text: Path | None = None
    seed: int = 0
    size: int = 256
    difficulty: float = 1.0
    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if self.clips < 1 or self.speakers < 1:
            raise ConfigError(f"at least 1 clip and 1 speaker expected, got {self.clips} and {self.speakers}")
        if self.size < 64 or self.size % 2:
            raise ConfigError(f"size must be even and at least 64 pixels, got {self.size}")
        if not 0 <= self.difficulty <= 2:
            raise ConfigError(f"difficulty must be in 0..2, got {self.difficulty:g}")
        if self.val < 0 or self.test < 0 or self.val + self.test >= 1:
            raise ConfigError(f"val and test must leave something to train on, got {self.val:g} and {self.test:g}")


class Plan(NamedTuple):
    """What a clip will show: the number of its speaker, what is said and for which split."""

    clip: int
    speaker: int
    sentence: Sentence
    split: str

    @property
    def name(self) -> str:
        """Folder and name of the clip's files, without suffix."""
        return f"{speaker_name(self.speaker)}/{self.sentence.name}"


class Shot(NamedTuple):
    """A clip: what was said and when, and the frames, which are drawn as they are taken."""

    speaker: Speaker
    take: Take
    utterance: Utterance
    frames: int
    pictures: Iterator[Image]


def speaker_name(number: int) -> str:
    """Name the folder of a speaker."""
    return f"sim{number + 1:02d}"


class Studio:
    """Make the clips of a corpus, in any order.

    Args:
        config: The corpus.
        held_out: Splits that sentences have by name; the others are drawn, by name too.

    Raises:
        ConfigError: There are not enough sentences for so many clips.
    """

    def __init__(self, config: SimulateConfig, held_out: dict[str, str] | None = None) -> None:
        self.config = config
        self._held_out = held_out or {}
        self._grammar = grammar(config.grammar, config.text)
        self._numbers = cache(partial(self._grammar.for_speaker, config.seed))
        most = config.speakers * len(self._numbers(0))
        if config.clips > most:
            raise ConfigError(
                f"{config.speakers} speakers have sentences for at most {most} clips, got {config.clips}",
                "ask for more speakers with --speakers",
            )

    def plan(self, clip: int) -> Plan:
        """Choose who says what in a clip."""
        round_number, speaker = divmod(clip, self.config.speakers)
        sentence = self._grammar.sentence(self._numbers(speaker)[round_number])
        split = self._held_out.get(sentence.name) or split_by_hash(sentence.name, self.config.val, self.config.test)
        return Plan(clip, speaker, sentence, split)

    def say(self, plan: Plan) -> Utterance:
        """Speak a sentence and film nothing: exactly the sound that `shoot` gives.

        Raises:
            DataError: A word has no pronunciation.
            MissingExtraError: The voice is not installed.
        """
        config = self.config
        speaker = make_speaker(config.seed, plan.speaker, config.size, config.difficulty)
        return self._say(plan, speaker, self._rng(plan))[1]

    def shoot(self, plan: Plan) -> Shot:
        """Speak a sentence and film it.

        Raises:
            DataError: A word has no pronunciation.
            MissingExtraError: The voice or the head is not installed.
        """
        config = self.config
        speaker, figure = _cast(config.seed, plan.speaker, config.size, config.difficulty)
        rng = self._rng(plan)
        shot, spoken = self._say(plan, speaker, rng)
        frames = len(spoken.wave) * FPS // SAMPLE_RATE
        poses = perform(spoken, shot.habits, frames, FPS, rng)
        pictures = self._film(figure, self._backdrop(speaker, plan.speaker), shot, poses, rng)
        return Shot(speaker, shot, spoken, frames, pictures)

    def _rng(self, plan: Plan) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, plan.speaker, plan.clip, 4])

    def _say(self, plan: Plan, speaker: Speaker, rng: np.random.Generator) -> tuple[Take, Utterance]:
        """Choose how a sentence is said, and say it in the speaker's room, for a whole number of video frames."""
        shot = make_take(speaker, rng, self.config.difficulty)
        spoken = self._voice.say(plan.sentence, shot.manner)
        frames = ceil(len(spoken.wave) * FPS / SAMPLE_RATE)
        wave = _in_room(spoken.wave, frames * SAMPLE_RATE // FPS, speaker.hum, rng)
        return shot, spoken._replace(wave=wave)

    @cached_property
    def _voice(self) -> Kokoro:
        return Kokoro()

    def _backdrop(self, speaker: Speaker, number: int) -> Backdrop:
        return furnish(
            speaker.room, speaker.wall, self.config.size, np.random.default_rng([self.config.seed, number, 5])
        )

    def _film(
        self, figure: Figure, backdrop: Backdrop, shot: Take, poses: list[Pose], rng: np.random.Generator
    ) -> Iterator[Image]:
        for pose in poses:
            yield record(take(figure, pose, shot.camera, shot.light, backdrop), shot.lens, rng)


@lru_cache(maxsize=2)
def _cast(seed: int, number: int, size: int, difficulty: float) -> tuple[Speaker, Figure]:
    """Draw a random speaker and build the head, which takes a second."""
    speaker = make_speaker(seed, number, size, difficulty)
    return speaker, Figure(speaker.identity, speaker.look, np.random.default_rng([seed, number, 3]))


def _in_room(speech: Samples, length: int, hum: float, rng: np.random.Generator) -> Float32[np.ndarray, " length"]:
    """Bring speech to the usual loudness, and add the noise of the room up to `length` samples."""
    active = speech[np.abs(speech) > 0.02 * np.abs(speech).max()]
    gain = min(LOUDNESS / np.sqrt((active**2).mean()), 0.95 / np.abs(speech).max())
    noise = lfilter([0.25], [1, -0.75], rng.standard_normal(length)) * hum
    wave = noise.astype(np.float32)
    wave[: len(speech)] += np.float32(gain) * speech
    return wave
