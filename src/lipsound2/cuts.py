"""The frames of a video, one by one -> where a scene ends and another begins."""

from collections import deque
from math import inf

import cv2
import numpy as np
from jaxtyping import Float32

from lipsound2.media import Image

ANY_CUT, SLIGHT_CUT, OUT_OF_LINE = 35.0, 12.0, 6.0
"""Changes from frame to frame, of 255, that are a cut: any above the first; above the second, where it is so many times
the median of the second before. Lips and heads that move change less than 2, a shot of another person 24 or more."""
ENOUGH = 5
"""Changes from which their median is known."""
SIDE = 32
"""Of the thumbnails that are compared, in pixels."""


class CutDetector:
    """Finds scene cuts, frame by frame: where much changes, or much more than shortly before."""

    def __init__(self) -> None:
        self._before: Float32[np.ndarray, "32 32 3"] | None = None
        self._changes: deque[float] = deque(maxlen=25)

    def __call__(self, image: Image) -> bool:
        """Return whether a frame is the first of another scene than the frame before."""
        small = _thumbnail(image)
        before, self._before = self._before, small
        if before is None:
            return False
        change = change_of_scene(before, small)
        usual = float(np.median(self._changes)) if len(self._changes) >= ENOUGH else inf
        cut = change > ANY_CUT or (change > SLIGHT_CUT and change > OUT_OF_LINE * usual)
        if cut:
            self._changes.clear()
        else:
            self._changes.append(change)
        return cut


def change_of_scene(before: Float32[np.ndarray, "32 32 3"], after: Float32[np.ndarray, "32 32 3"]) -> float:
    """Return the mean difference of two thumbnails, without that of their brightness."""
    change = after - before
    return float(np.abs(change - change.mean()).mean())


def _thumbnail(image: Image) -> Float32[np.ndarray, "32 32 3"]:
    """Return the means of blocks of whole pixels, a margin left out: that is three times as fast as parts of pixels."""
    height, width = (size - size % SIDE if size > SIDE else size for size in image.shape[:2])
    return cv2.resize(image[:height, :width], (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
