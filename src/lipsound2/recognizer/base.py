"""Interface of recognisers, and transcription of audio of any sample rate."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from lipsound2.audio import resample
from lipsound2.text.alphabet import Transcript

Wave = Float32[np.ndarray, " samples"]


@runtime_checkable
class Recognizer(Protocol):
    """Interface of audio -> text.

    Attributes:
        name: As in `--recognizer`.
        sample_rate: Of its input, in Hz.
    """

    name: str
    sample_rate: int

    def transcribe(self, wave: Wave) -> Transcript:
        """Return the words of a wave in [-1, 1] of any length; none and a note for silence and noise."""
        ...


def transcribe_wave(recognizer: Recognizer, wave: Wave, sample_rate: int) -> Transcript:
    """Transcribe a wave of any sample rate."""
    return recognizer.transcribe(resample(wave.astype(np.float32), sample_rate, recognizer.sample_rate))
