"""The stretches of video in which one face is seen without a cut, and their sound -> words, each stretch on its own.

What is read of one stretch never reaches into another: no word and no subtitle runs over a cut, over a part without a
face or from one person to another.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from lipsound2.recognizer.base import Recognizer, transcribe_wave
from lipsound2.text.alphabet import Transcript

Portrait = UInt8[np.ndarray, "160 160 3"]


class Stretch(NamedTuple):
    """Part of a video in which a face is seen without a cut.

    Attributes:
        start, stop: In seconds.
        face: Number of its track, from 1, as `--list-faces` prints it.
        speaker: Whose words they are in subtitles, where several faces are heard.
        portrait: The face in the middle of the stretch.
    """

    start: float
    stop: float
    face: int = 1
    speaker: str = ""
    portrait: Portrait | None = None


Heard = Callable[[Stretch, Float32[np.ndarray, " samples"], int], None]
"""Told a stretch as soon as it was spoken, its samples, and samples a second."""


class Reader:
    """Reads stretches as soon as they are heard.

    Args:
        recognizer: Reads.
        told: Told the words of each stretch.
    """

    def __init__(self, recognizer: Recognizer, told: Callable[[Transcript], None] | None = None) -> None:
        self.recognizer = recognizer
        self.told = told
        self._read: list[tuple[Stretch, Transcript]] = []

    def __call__(self, stretch: Stretch, wave: Float32[np.ndarray, " samples"], sample_rate: int) -> None:
        """Read a stretch."""
        heard = placed(transcribe_wave(self.recognizer, wave, sample_rate), stretch, len(self._read))
        self._read.append((stretch, heard))
        if self.told:
            self.told(heard)

    def take(self) -> Transcript:
        """Return all that was read since this was last called, in the order of time."""
        read, self._read = self._read, []
        return joined([heard for _, heard in sorted(read, key=lambda each: each[0][:3])])


def placed(transcript: Transcript, stretch: Stretch, number: int) -> Transcript:
    """Move words to their place in the video, within their stretch."""
    words = []
    for word in transcript.words:
        start, end = (min(stretch.start + time, stretch.stop) for time in (word.start, word.end))
        words.append(word._replace(start=start, end=end, stretch=number, speaker=stretch.speaker))
    return replace(transcript, words=tuple(words))


def retimed(transcript: Transcript, moved: Callable[[float], float]) -> Transcript:
    """Return words at other times."""
    words = (word._replace(start=moved(word.start), end=moved(word.end)) for word in transcript.words)
    return replace(transcript, words=tuple(words))


def joined(transcripts: Sequence[Transcript]) -> Transcript:
    """Put the words of stretches after each other."""
    first = transcripts[0] if transcripts else Transcript(note="no face was seen")
    if len(transcripts) < 2:
        return first
    words = tuple(word for transcript in transcripts for word in transcript.words)
    notes = [transcript.note for transcript in transcripts if transcript.note]
    note = f"{len(notes)} of {len(transcripts)} stretches have no words or fewer ({notes[0]})" if notes else None
    return replace(first, words=words, note=note)
