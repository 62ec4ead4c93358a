"""Frames as they come -> the aligned face of each, as `faces` finds it in a whole file, but without the future."""

import time
from collections import deque

import numpy as np

from lipsound2.faces import Crop, Detector, FaceTrack, Watch, crop_faces
from lipsound2.media import Frame, Image
from lipsound2.trails import Face, Points, box_overlap

PATIENCE = 25
"""Frames in which the face is not seen after which it is gone."""
SHARE = 0.15
"""Of the time that may be spent on looking for faces."""
MEMORY = 21
"""Frames over which landmarks are smoothed."""
SIGMA = 5.0
"""Of the Gaussian, in frames."""


class FaceFollower:
    """Follows one face: the largest at first and after a cut, then the one that is where it was.

    Args:
        detector: Finds faces.
        fps: Frames a second.
        every: Frames from one look to the next, as in `faces.Watch`, if looks are fast enough.
    """

    def __init__(self, detector: Detector, fps: int, every: int = 5) -> None:
        self.fps = fps
        self.every = every
        self._watch = Watch(detector, every)
        self._face: Face | None = None
        self._history: deque[Points] = deque(maxlen=MEMORY)
        self._index = self._seen = 0
        self._seconds = 0.0

    def __call__(self, image: Image) -> Crop | None:
        """Return the face in the next frame, or nothing if there is none."""
        began = time.thread_time()
        look = self._watch(self._index, image)
        if look.cut:
            self._face = None
        if look.faces is not None:
            self._take(look.faces)
            self._pace(time.thread_time() - began)
        self._index += 1
        if self._face is None:
            return None
        self._history.append(self._face.points())
        points = _smoothed(self._history)
        return next(crop_faces([Frame(0, image)], FaceTrack(0, self._face.box[None], points[None])))

    def _take(self, found: list[Face]) -> None:
        best = self._best(found)
        if best is not None:
            if self._face is None or not box_overlap(self._face.box, best.box):
                self._history.clear()
            self._face, self._seen = best, self._index
        elif self._index - self._seen > PATIENCE:
            self._face = None

    def _pace(self, took: float) -> None:
        """Look at a face that is there less often on a slow machine."""
        self._seconds = took if not self._seconds else 0.7 * self._seconds + 0.3 * took
        pause = 0 if self._face is None else round(self._seconds * self.fps / SHARE)
        self._watch.every = min(PATIENCE, max(self.every, pause))

    def _best(self, found: list[Face]) -> Face | None:
        held = self._face
        if held is not None:
            return max(
                (face for face in found if box_overlap(held.box, face.box) > 0.2),
                key=lambda face: box_overlap(held.box, face.box),
                default=None,
            )
        return max(found, key=lambda face: float(np.prod(face.box[2:] - face.box[:2])), default=None)


def _smoothed(history: deque[Points]) -> Points:
    """Return the last landmarks, smoothed: what follows is taken to be as the last."""
    ages = np.arange(len(history))[::-1]
    weights = np.exp(-0.5 * (ages / SIGMA) ** 2)
    weights[-1] += np.exp(-0.5 * (np.arange(1, MEMORY) / SIGMA) ** 2).sum()
    return np.tensordot(weights / weights.sum(), np.stack(history), axes=1)
