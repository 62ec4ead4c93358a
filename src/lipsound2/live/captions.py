"""Sound as it comes -> words as captions: those that are settled, and those that may still change.

The sound since the last settled word is read again and again, in a thread of its own, so that it never delays sound.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lipsound2.audio import resample
from lipsound2.errors import LipSoundError, guard
from lipsound2.recognizer.base import Recognizer, Wave
from lipsound2.text.alphabet import Word

PAUSE = 0.6
"""Seconds without a word after which what was read is settled."""
LONGEST = 6.0
"""Seconds after which words are settled without a pause."""
MARGIN = 1.0
"""Seconds before the end in which words may still change."""
STEP = 0.5
"""Seconds of new sound after which it is read again."""


class Caption(NamedTuple):
    """Words with times since the start: those that have just been settled, and those that may change."""

    settled: tuple[Word, ...]
    open: tuple[Word, ...]


class Captions:
    """Reads a stream of sound.

    Args:
        recognizer: Reads it.
        sample_rate: Of the sound.
        show: Told what was read, in the reading thread.
    """

    def __init__(self, recognizer: Recognizer, sample_rate: int, show: Callable[[Caption], None]) -> None:
        self.recognizer = recognizer
        self.sample_rate = sample_rate
        self.show = show
        self.error: LipSoundError | None = None
        self._start = 0.0
        self._held: list[Wave] = []
        self._unread = 0
        self._ended = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="captions", daemon=True)
        self._thread.start()

    def push(self, wave: Wave) -> None:
        """Take the next samples."""
        with self._change:
            self._held.append(wave)
            self._unread += len(wave)
            self._change.notify_all()

    def finish(self) -> None:
        """Read what is left, and end.

        Raises:
            LipSoundError: Reading failed.
        """
        with self._change:
            self._ended = True
            self._change.notify_all()
        self._thread.join()
        if self.error:
            raise self.error

    def _run(self) -> None:
        ended = False
        try:
            while not ended:
                with self._change:
                    self._change.wait_for(lambda: self._unread >= STEP * self.sample_rate or self._ended)
                    wave, ended = np.concatenate([np.zeros(0, np.float32), *self._held]), self._ended
                    self._unread = 0
                with guard("captions"):
                    self._read(wave, ended)
        except LipSoundError as error:
            self.error = error

    def _read(self, wave: Wave, ended: bool) -> None:
        seconds = len(wave) / self.sample_rate
        rate = self.recognizer.sample_rate
        words = self.recognizer.transcribe(resample(wave, self.sample_rate, rate)).words
        cut = seconds if ended else settled_until(words, seconds)
        settled, later = ([w for w in words if (w.end <= cut) == before] for before in (True, False))
        caption = Caption(self._moved(settled), self._moved(later))
        self._forget(cut)
        if caption.settled or caption.open or ended:
            self.show(caption)

    def _moved(self, words: list[Word]) -> tuple[Word, ...]:
        return tuple(word._replace(start=word.start + self._start, end=word.end + self._start) for word in words)

    def _forget(self, seconds: float) -> None:
        if seconds <= 0:
            return
        with self._change:
            whole = np.concatenate(self._held) if self._held else np.zeros(0, np.float32)
            gone = min(round(seconds * self.sample_rate), len(whole))
            self._held = [whole[gone:]]
            self._start += gone / self.sample_rate


def settled_until(words: tuple[Word, ...], seconds: float) -> float:
    """Return up to which second words do not change any more: a pause, or where there is none for long, a word's end.

    >>> settled_until((), 3.0)
    2.0
    """
    if not words:
        return max(0.0, seconds - MARGIN)
    ends = [word.end for word in words]
    starts = [*(word.start for word in words[1:]), seconds]
    pauses = [(end + start) / 2 for end, start in zip(ends, starts, strict=True) if start - end >= PAUSE]
    if pauses:
        return pauses[-1]
    if seconds < LONGEST:
        return 0.0
    return max((end for end in ends if end <= seconds - MARGIN), default=seconds - MARGIN)
