"""How long work takes -> how many frames are worked on, how many are waited for, and how much sound is left out.

On a machine that is fast enough nothing of this happens. On one that is not, what is heard stays within a limit of the
lips: frames are skipped, and the last ones are read without what comes after them. Sound that waits to be heard, since
it was late once, is shortened, so that a moment of slowness is not heard forever.
"""

from collections import deque

import numpy as np
from jaxtyping import Float32

KEPT = 0.7
"""Share of the former estimate of the work."""
WINDOW = 1.5
"""Seconds over which sound has to wait before it is shortened."""
RESERVE = 0.04
"""Seconds of waiting that stay, for hops that take longer than others."""
SHARE = 0.2
"""Of a piece of sound, the most that is left out."""
FADE = 160
"""Samples over which sound fades across what is left out."""
LEAST = 80
"""Samples for which it is not worth it."""

Wave = Float32[np.ndarray, " samples"]
Short = Float32[np.ndarray, " fewer"]


class Haste:
    """Keeps sound near the lips.

    Args:
        fps: Frames a second.
        hop: Frames that are worked on at once, at least.
        limit: Seconds from lips to sound that are tolerated; infinite for what need not be heard in time.
    """

    def __init__(self, fps: int, hop: int, limit: float) -> None:
        self.fps = fps
        self.hop = hop
        self.limit = limit
        self._each = 0.0
        self._work = 0.0
        self._waits: deque[float] = deque(maxlen=max(2, round(WINDOW * fps / hop)))

    def worked(self, frames: int, seconds: float) -> None:
        """Note how long work on some frames took."""
        kept = KEPT if self._work else 0.0
        self._each = kept * self._each + (1 - kept) * seconds / frames
        self._work = kept * self._work + (1 - kept) * seconds

    @property
    def most(self) -> int | None:
        """Return how many frames can be worked on without being late, at least a hop; None if any number can."""
        if self.limit == np.inf or not self._work:
            return None
        return max(self.hop, int(self.limit / (self._each + 1 / self.fps)))

    def patience(self, ages: list[float]) -> int:
        """Return how many of the last frames can wait for the next hop without being late.

        Args:
            ages: Seconds since each was seen, the oldest first.
        """
        coming = self._work + max(self._work, self.hop / self.fps)
        return sum(age + coming <= self.limit for age in ages)

    def shortened(self, wave: Wave, wait: float, rate: int) -> Short:
        """Return a piece of sound that waits so many seconds to be heard, shorter if those before waited as well."""
        self._waits.append(max(0.0, wait))
        if self.limit == np.inf or len(self._waits) < (self._waits.maxlen or 0):
            return wave
        spare = min(min(self._waits) - RESERVE, SHARE * len(wave) / rate)
        short = shorten(wave, max(0, round(spare * rate)))
        left_out = (len(wave) - len(short)) / rate
        self._waits = deque([each - left_out for each in self._waits], self._waits.maxlen)
        return short


def shorten(wave: Wave, most: int) -> Short:
    """Leave out between half of so many samples and all, where it is heard least; the edges stay as they are."""
    starts = np.arange(FADE // 2, len(wave) - most - 3 * FADE // 2, FADE // 4)
    if most < LEAST or not len(starts):
        return wave
    spans = np.lib.stride_tricks.sliding_window_view(wave, FADE)
    sizes = np.arange(most // 2, most + 1, 8)
    changes = np.stack([np.square(spans[starts] - spans[starts + size]).sum(axis=1) for size in sizes])
    row, column = np.unravel_index(changes.argmin(), changes.shape)
    start, size = starts[column], sizes[row]
    rise = np.linspace(0, 1, FADE, dtype=np.float32)
    faded = (1 - rise) * spans[start] + rise * spans[start + size]
    return np.concatenate([wave[:start], faded, wave[start + size + FADE :]])
