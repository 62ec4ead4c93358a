"""Faces detected in single frames -> trails: one face each, followed and interpolated between detections."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Float

TEMPLATE = np.array([[56, 52], [104, 52], [80, 84], [61, 112], [99, 112]], np.float64)
"""Positions of eyes, nose and mouth corners in a face crop, left to right in the image."""

Box = Float[np.ndarray, "4"]
Points = Float[np.ndarray, "5 2"]


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face: its box (left, top, right, bottom) and, if known, its five landmarks."""

    box: Box
    score: float
    landmarks: Points | None = None

    def points(self) -> Points:
        """Return the landmarks, or those of an average face that fills the box."""
        if self.landmarks is not None:
            return self.landmarks
        left, top, right, bottom = self.box
        # An average detector's box spans, on the canvas, 30..130 across and 5..155 down.
        scale = np.array([(right - left) / 100, (bottom - top) / 150])
        return (TEMPLATE - [30, 5]) * scale + [left, top]


class Trail:
    """A face that is being followed: its box and landmarks in each frame as far as they are known.

    Attributes:
        start: Index of its first frame.
        seen: Index of the frame in which it was detected last.
        face: As it was detected last.
        bridged: Frames without a detection, which are interpolated.
    """

    def __init__(self, index: int, face: Face) -> None:
        self.start = self.seen = self._first = index
        self.face = face
        self.bridged = 0
        self._rows = deque([_row(face)])

    @property
    def stop(self) -> int:
        """Index after the last frame."""
        return self._first + len(self._rows)

    def see(self, index: int, face: Face, every: int) -> None:
        """Add a detection, and interpolate since the last one."""
        steps = index - self.seen
        shares = np.arange(1, steps + 1)[:, None] / steps
        before, after = self._rows[-1], _row(face)
        self._rows.extend(before + shares * (after - before))
        self.bridged += steps - 1 if steps > every else 0
        self.seen, self.face = index, face

    def rows(self, start: int, stop: int) -> Float[np.ndarray, "frames 14"]:
        """Return box and landmarks of the frames `start` to `stop` - 1."""
        return np.stack(list(islice(self._rows, start - self._first, stop - self._first)))

    def forget(self, before: int) -> None:
        """Drop what is known of earlier frames."""
        while self._first < before and len(self._rows) > 1:
            self._rows.popleft()
            self._first += 1


class Linker:
    """Detections of single frames -> trails, linked by overlap of boxes.

    Args:
        every: Frames between detections.
        bridge: Longest gap in frames that is interpolated.
        overlap: Least overlap of boxes.

    Attributes:
        open: Trails that may go on.
        last: Index of the frame in which faces were detected last.
    """

    def __init__(self, every: int, bridge: int, overlap: float = 0.3) -> None:
        self._every = every
        self._bridge = bridge
        self._overlap = overlap
        self.open: list[Trail] = []
        self.last = -1

    def link(self, index: int, faces: Sequence[Face]) -> list[Trail]:
        """Add the faces of a frame and return the trails that ended."""
        pairs = sorted(
            (
                (box_overlap(trail.face.box, face.box), i, j)
                for i, trail in enumerate(self.open)
                for j, face in enumerate(faces)
            ),
            reverse=True,
        )
        linked: dict[int, int] = {}
        for overlap, i, j in pairs:
            if overlap >= self._overlap and i not in linked and j not in linked.values():
                linked[i] = j
                self.open[i].see(index, faces[j], self._every)
        self.open += [Trail(index, face) for j, face in enumerate(faces) if j not in linked.values()]
        self.last = index
        return self._close([trail for trail in self.open if index - trail.seen > self._bridge])

    def close_all(self, stop: int) -> list[Trail]:
        """End all trails and return them; one with a face in the last detection lasts until frame `stop` - 1."""
        for trail in self.open:
            if trail.seen == self.last and stop - 1 > self.last:
                trail.see(stop - 1, trail.face, self._every)
        return self._close(list(self.open))

    def _close(self, ended: list[Trail]) -> list[Trail]:
        for trail in ended:
            self.open.remove(trail)
        return ended


def _row(face: Face) -> Float[np.ndarray, "14"]:
    return np.concatenate([face.box, face.points().ravel()])


def box_overlap(a: Box, b: Box) -> float:
    """Compute the intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inner = float(np.prod(np.maximum(sides, 0)))
    return inner / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner)
