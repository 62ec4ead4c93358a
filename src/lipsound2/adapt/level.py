"""A wave -> how much of it is speech, how loud that and the noise are, and how much is clipped."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import binary_closing, binary_dilation

STEP = 0.02
"""Seconds of a frame."""
QUIETEST = -90.0
"""dB of full scale to which digital silence is raised."""
SILENT = -60.0
"""dB of full scale: what never exceeds it is silence."""
RANGE = 6.0
"""dB by which speech must exceed the noise."""
PAUSE, EDGE = 0.3, 0.1
"""Seconds: shorter pauses count as speech, as does so much around it."""
FULL = 0.985
"""Share of full scale from which on a sample counts as clipped."""

Wave = Float32[np.ndarray, " samples"]


@dataclass(frozen=True)
class Level:
    """Loudness of a wave.

    Attributes:
        seconds: Its length.
        speech: Seconds of it that are speech.
        loud: Level of the speech in dB of full scale.
        noise: Level of the pauses.
        clipped: Share of the samples of speech that are clipped.
    """

    seconds: float
    speech: float
    loud: float
    noise: float
    clipped: float

    @property
    def silent(self) -> bool:
        """Return whether nothing is heard."""
        return self.loud < SILENT


def measure(wave: Wave, sample_rate: int) -> Level:
    """Measure a wave; frames that are nearer to its loudest than to its quietest count as speech."""
    size = round(STEP * sample_rate)
    frames = wave[: len(wave) // size * size].reshape(-1, size).astype(np.float64)
    levels: Float[np.ndarray, " frames"] = 10 * np.log10(
        np.maximum(np.square(frames).mean(axis=1), 10 ** (QUIETEST / 10))
    )
    if not len(levels):
        return Level(len(wave) / sample_rate, 0.0, QUIETEST, QUIETEST, 0.0)
    noise, loud = (float(np.quantile(levels, share)) for share in (0.05, 0.95))
    speech = levels > max(noise + max(RANGE, 0.4 * (loud - noise)), SILENT)
    around, pause = round(EDGE / STEP), round(PAUSE / STEP)
    if speech.any():
        speech = binary_dilation(binary_closing(np.pad(speech, pause), np.ones(pause)), iterations=around)[pause:-pause]
    clipped = float((np.abs(frames) >= FULL).sum()) / max(1, int(speech.sum()) * size)
    return Level(len(wave) / sample_rate, float(speech.sum()) * STEP, loud, noise, min(1.0, clipped))
