"""Frames as they come -> the aligned face of each, as `faces` finds it in a whole file, but without the future.

Where a face is gets clearer by what follows: the crops of the last frames can be asked for again.
"""

import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lipsound2.faces import SMOOTHING, Crop, Detector, Watch, reach, shrunk, similarity, smoothed, warp
from lipsound2.media import Image
from lipsound2.trails import TEMPLATE, Face, Points, box_overlap

PATIENCE = 25
"""Frames in which the face is not seen after which it is gone."""
SHARE = 0.2
"""Of the time that may be spent on looking for faces."""
SEARCH = 5
"""Frames from one search to the next while there is no face."""


class Recent(NamedTuple):
    """The last frames of one face.

    Attributes:
        first: Number of the frame from which on it is this face.
        pictures: Frames, and the scale to which each was reduced.
        points: Landmarks of these frames and of some before, in pixels of the frames as they came.
    """

    first: int
    pictures: list[tuple[Image, float]]
    points: Float[np.ndarray, "frames 5 2"]

    def crops(self, count: int) -> list[Crop]:
        """Return the aligned face in the last frames, as well as it can be told by now."""
        points = smoothed(self.points, SMOOTHING)[-count:]
        pictures = self.pictures[-count:]
        return [
            warp(image, similarity(place * scale, TEMPLATE))
            for place, (image, scale) in zip(points, pictures, strict=True)
        ]


class FaceFollower:
    """Follows one face: the largest at first and after a cut, then the one that is where it was.

    Args:
        detector: Finds faces.
        fps: Frames a second.
        kept: Frames of which crops can be asked for.
    """

    def __init__(self, detector: Detector, fps: int, kept: int) -> None:
        self.fps = fps
        self.kept = kept
        self._watch = Watch(detector, SEARCH)
        self._face: Face | None = None
        self._points: list[Points] = []
        self._pictures: list[tuple[Image, float]] = []
        self._index = self._seen = self._first = 0
        self._seconds = 0.0

    def __call__(self, image: Image) -> Recent | None:
        """Take the next frame, and return the face in it and the last ones, or nothing if there is none."""
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
        points = self._face.points()
        self._points = [*self._points[1 - self.kept - reach(SMOOTHING) :], points]
        self._pictures = [*self._pictures[1 - self.kept :], shrunk(image, similarity(points, TEMPLATE))]
        return Recent(self._first, self._pictures, np.stack(self._points))

    def _take(self, found: list[Face]) -> None:
        best = self._best(found)
        if best is not None:
            if self._face is None or not box_overlap(self._face.box, best.box):
                self._points, self._pictures, self._first = [], [], self._index
            else:
                self._bridge(best.points())
            self._face, self._seen = best, self._index
        elif self._index - self._seen > PATIENCE:
            self._face = None

    def _bridge(self, points: Points) -> None:
        """Let the face have moved evenly in the frames that were not looked at."""
        missed = self._index - self._seen - 1
        before = len(self._points) - missed - 1
        if before >= 0:
            shares = np.arange(1, missed + 1)[:, None, None] / (missed + 1)
            self._points[before + 1 :] = list(self._points[before] + shares * (points - self._points[before]))

    def _pace(self, took: float) -> None:
        """Look at a face in each frame, less often on a slow machine."""
        self._seconds = took if not self._seconds else 0.7 * self._seconds + 0.3 * took
        pause = round(self._seconds * self.fps / SHARE)
        self._watch.every = min(PATIENCE, max(SEARCH if self._face is None else 1, pause))

    def _best(self, found: list[Face]) -> Face | None:
        held = self._face
        if held is not None:
            return max(
                (face for face in found if box_overlap(held.box, face.box) > 0.2),
                key=lambda face: box_overlap(held.box, face.box),
                default=None,
            )
        return max(found, key=lambda face: float(np.prod(face.box[2:] - face.box[:2])), default=None)
