"""What every recogniser can do, and how sound of any rate gets to it."""

from math import gcd
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from lipsound2.text.alphabet import Transcript

Wave = Float32[np.ndarray, " samples"]


@runtime_checkable
class Recognizer(Protocol):
    """Anything that turns sound into text.

    Attributes:
        name: As in `--recognizer`.
        sample_rate: Of the waves it takes, in Hz.
    """

    name: str
    sample_rate: int

    def transcribe(self, wave: Wave) -> Transcript:
        """Give the words of a wave in [-1, 1] of any length, none and a note for silence and noise."""
        ...


def transcribe_wave(recognizer: Recognizer, wave: Wave, sample_rate: int) -> Transcript:
    """Transcribe a wave of any sample rate."""
    if sample_rate != recognizer.sample_rate:
        from scipy.signal import resample_poly  # most of a second to import, and seldom needed

        common = gcd(sample_rate, recognizer.sample_rate)
        wave = resample_poly(wave, recognizer.sample_rate // common, sample_rate // common)
    return recognizer.transcribe(wave.astype(np.float32))
