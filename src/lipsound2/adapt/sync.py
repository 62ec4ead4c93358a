"""Mels that a model predicts from pictures, and those of the sound -> by how much the sound is late.

A model that never saw a face still knows when its mouth opens and closes: summed over clips, prediction and reference
correlate best where sound and picture belong together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import gaussian_filter1d

BANDS = 8
"""Groups of mel bins that are compared."""
SMOOTH, DRIFT = 0.03, 0.15
"""Seconds: faster and slower changes than syllables are taken out."""
FLOOR = -7.0
"""Log-mel below which all counts as silence."""
SHORTEST = 0.5
"""Seconds that must overlap at a lag."""
NEIGHBOURS = 0.2
"""Seconds around the best lag that belong to its peak."""
CLEAR, AHEAD = 0.2, 1.3
"""A correlation that counts, and by how much it must exceed any other one."""

Lags = Float[np.ndarray, " lags"]
Mel = Float32[np.ndarray, "mels frames"]


@dataclass(frozen=True)
class Sums:
    """Sums over a clip, by lag: of the products of prediction and reference, and of the squares of each."""

    product: tuple[float, ...]
    predicted: tuple[float, ...]
    reference: tuple[float, ...]


@dataclass(frozen=True)
class Lag:
    """By how much sound is late.

    Attributes:
        seconds: The lag; negative if the sound is early.
        correlation: At this lag.
        rival: The largest correlation at another one.
    """

    seconds: float
    correlation: float
    rival: float

    @property
    def clear(self) -> bool:
        """Return whether the lag can be relied on."""
        return self.correlation >= CLEAR and self.correlation >= AHEAD * self.rival


def compare(predicted: Mel, reference: Mel, rate: float, most: float = 1.5) -> Sums:
    """Correlate the mels of a clip at each lag.

    Args:
        predicted: From the pictures.
        reference: From the sound.
        rate: Mel frames a second.
        most: Largest lag in seconds.
    """
    frames = min(predicted.shape[1], reference.shape[1])
    one, two = (_syllables(mel[:, :frames], rate) for mel in (predicted, reference))
    rows = []
    for lag in _lags(rate, most):
        first, last = max(0, -lag), min(frames, frames - lag)
        if last - first < SHORTEST * rate:
            rows.append((0.0, 0.0, 0.0))
            continue
        x, y = one[:, first:last], two[:, first + lag : last + lag]
        rows.append((float((x * y).sum()), float((x * x).sum()), float((y * y).sum())))
    return Sums(*(tuple(round(value, 4) for value in column) for column in zip(*rows, strict=True)))


def find_lag(clips: Sequence[Sums], rate: float, most: float = 1.5) -> Lag | None:
    """Return the lag of all clips together; None if there are none or they are silent.

    Args:
        clips: Sums of clips, by the same `rate` and `most`.
        rate: Mel frames a second.
        most: Largest lag in seconds.
    """
    if not clips:
        return None
    product, predicted, reference = (
        np.sum([getattr(clip, name) for clip in clips], axis=0) for name in ("product", "predicted", "reference")
    )
    power = np.sqrt(predicted * reference)
    if not power.any():
        return None
    curve = np.where(power > 0, product / np.where(power > 0, power, 1), 0.0)
    lags = np.array(_lags(rate, most))
    best = int(curve.argmax())
    others = curve[np.abs(lags - lags[best]) > NEIGHBOURS * rate]
    return Lag(float(lags[best]) / rate, float(curve[best]), float(others.max(initial=0.0)))


def _lags(rate: float, most: float) -> list[int]:
    return list(range(-round(most * rate), round(most * rate) + 1))


def _syllables(mel: Mel, rate: float) -> Float[np.ndarray, "bands frames"]:
    """Keep what changes with syllables, in a few bands."""
    bands = np.maximum(mel, FLOOR).reshape(BANDS, -1, mel.shape[1]).mean(axis=1).astype(np.float64)
    smooth = gaussian_filter1d(bands, SMOOTH * rate, axis=1)
    return smooth - gaussian_filter1d(smooth, DRIFT * rate, axis=1, mode="nearest")
