"""The audio of a long stretch -> where to split it: at the quietest moment, which is a pause if there is one."""

import numpy as np
from jaxtyping import Float32

QUIET = 7
"""Frames over which loudness is averaged: a pause between words, longer than a closed plosive."""


def quietest(wave: Float32[np.ndarray, " samples"], frames: int, first: int, last: int) -> int:
    """Return the frame from `first` to `last` before which it is quietest; of several the last one.

    Args:
        wave: Audio of a stretch.
        frames: Frames of the stretch.
        first: First frame that may begin the rest.
        last: Last one.
    """
    per_frame = len(wave) // frames
    power = (wave[: per_frame * frames].reshape(frames, per_frame).astype(np.float64) ** 2).mean(1)
    padded = np.pad(power, QUIET // 2, mode="edge")
    around = np.convolve(padded, np.ones(QUIET) / QUIET, mode="valid")
    before = (around[first - 1 : last] + around[first : last + 1]) / 2
    return last - int(before[::-1].argmin())
