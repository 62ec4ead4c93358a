"""The frames of a video, however long -> aligned face crops of whoever may be speaking, in one pass.

A frame can be cropped only once the face is known to go on, since its landmarks are interpolated between detections and
smoothed over time. Until then the surroundings of each face are held, a second or two of them.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from lipsound2 import faces
from lipsound2.media import Frame, Image
from lipsound2.trails import Face, Linker, Points, Trail

BRIDGE = 25
"""Longest gap in frames without the face that is interpolated."""
RIVAL = 0.25
"""Share of the largest face's area above which another face may be the one that speaks."""
MARGIN = 0.75
"""What is held around a face on each side, as a share of its longer side; it may move before it is detected again."""
LARGE = 430
"""Height in pixels of a face beyond which its surroundings are held reduced."""
NO_FACE = "no face"
SEVERAL = "several faces"
REACH = faces.reach(faces.SMOOTHING)


class Crop(NamedTuple):
    """The face of one frame of one trail; no pixels say that the trail has ended."""

    trail: int
    frame: int
    pixels: faces.Crop | None


class Patch(NamedTuple):
    """The surroundings of a face, where they begin in the frame, and by how much they were reduced."""

    image: Image
    left: int
    top: int
    reduction: int


class Followed:
    """A trail and what is needed to crop it.

    Attributes:
        trail: The face.
        number: Counts the trails of a video.
        open: Whether it may go on.
        next: Index of the frame that is cropped next.
        used: For each frame from `next` on, as far as that is decided, whether it is used.
    """

    def __init__(self, trail: Trail, number: int) -> None:
        self.trail = trail
        self.number = number
        self.open = True
        self.next = trail.start
        self.used: deque[bool] = deque()
        self._patches: deque[Patch] = deque()
        self._area = 0.0
        self._count = 0

    @property
    def certain(self) -> int:
        """Index after the last frame of which it is known whether this face is in it."""
        return self.trail.seen + 1 if self.trail.stop - self.trail.start >= faces.SHORTEST else self.trail.start

    def covers(self, frame: int) -> bool:
        """Return whether the face is in a frame; what is too short was no face."""
        length = self.trail.stop - self.trail.start
        return self.trail.start <= frame < self.trail.stop and length >= faces.SHORTEST

    def area(self, frame: int) -> float:
        """Return the mean area of the face up to a frame."""
        left, top, right, bottom = self.trail.rows(frame, frame + 1)[0, :4]
        self._area += float((right - left) * (bottom - top))
        self._count += 1
        return self._area / self._count

    def distance(self, frame: int, x: float, y: float) -> float:
        """Return how far the face is from a point in a frame, in pixels."""
        left, top, right, bottom = self.trail.rows(frame, frame + 1)[0, :4]
        return float(np.hypot((left + right) / 2 - x, (top + bottom) / 2 - y))

    def hold(self, image: Image) -> None:
        """Hold what is around the face in the next frame."""
        self._patches.append(_patch(image, self.trail.face))

    def crops(self, settled: int) -> Iterator[Crop]:
        """Crop the frames that can be: those before `settled` whose landmarks are known far enough ahead."""
        trail = self.trail
        stop = min(settled, trail.seen + 1 - REACH if self.open else trail.stop)
        if stop > self.next:
            first = max(trail.start, self.next - REACH)
            points = trail.rows(first, min(trail.stop, stop + REACH))[:, 4:].reshape(-1, 5, 2)
            smooth = faces.smoothed(points, faces.SMOOTHING)[self.next - first :]
            for frame, landmarks in zip(range(self.next, stop), smooth, strict=False):
                patch = self._patches.popleft()
                if self.used.popleft():
                    yield Crop(self.number, frame, _cropped(patch, landmarks))
            self.next = stop
            trail.forget(stop - REACH)


class Follower:
    """Follows the faces of a video and crops those that are used.

    Args:
        detector: Called on every `every`-th frame and after each scene cut, as in `faces.Watch`.
        every: Frames between detections.
        several: What is done while several faces of similar size are seen: `leave` uses none of them, `largest` the
            largest, `each` all of them.
        point: Where the face that is used is when it is first seen, as shares (x, y) of width and height; `several`
            counts for nothing then.

    Attributes:
        frames: Frames so far.
        lost: Of those frames, how many are used of no face, and why.
    """

    def __init__(
        self, detector: faces.Detector, every: int, several: str, point: tuple[float, float] | None = None
    ) -> None:
        self.frames = 0
        self.lost: Counter[str] = Counter()
        self._watch = faces.Watch(detector, every)
        self._several = several
        self._point = point
        self._pointed: int | None = None
        self._size = (0, 0)
        self._linker = Linker(every, BRIDGE)
        self._followed: list[Followed] = []
        self._numbers = 0
        self._settled = 0

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Crop]:
        """Yield the crops of all faces that are used, those of one face in order."""
        for index, image in frames:
            self._size = (image.shape[1], image.shape[0])
            look = self._watch(index, image)
            if look.cut:
                yield from self._cut(index)
            if look.faces is not None:
                self._end(self._linker.link(index, look.faces))
                self._begin()
            for followed in self._followed:
                if followed.open:
                    followed.hold(image)
            self.frames = index + 1
            if self._linker.last == index:
                yield from self._settle(min([index + 1, *(each.certain for each in self._followed if each.open)]))
        yield from self._cut(self.frames)

    def _cut(self, frame: int) -> Iterator[Crop]:
        """End all trails before a frame."""
        self._end(self._linker.close_all(frame))
        yield from self._settle(frame)

    def _begin(self) -> None:
        known = [each.trail for each in self._followed]
        for trail in self._linker.open:
            if trail not in known:
                self._followed.append(Followed(trail, self._numbers))
                self._numbers += 1

    def _end(self, ended: list[Trail]) -> None:
        for followed in self._followed:
            followed.open = followed.open and followed.trail not in ended

    def _settle(self, stop: int) -> Iterator[Crop]:
        """Decide which face is used in each frame before `stop`, and crop what can be cropped."""
        for frame in range(self._settled, stop):
            seen = [each for each in self._followed if each.covers(frame)]
            used = self._used(seen, frame)
            for followed, taken in zip(seen, used, strict=True):
                followed.used.append(taken)
            if not any(used):
                self.lost[SEVERAL if seen else NO_FACE] += 1
        self._settled = max(self._settled, stop)
        for followed in list(self._followed):
            if followed.open or followed.covers(followed.trail.start):
                yield from followed.crops(self._settled)
            if not followed.open and self._settled >= followed.trail.stop:
                self._followed.remove(followed)
                yield Crop(followed.number, followed.trail.stop, None)

    def _used(self, seen: list[Followed], frame: int) -> list[bool]:
        """Return which of the faces of a frame are used."""
        if self._point is None:
            return _choose([each.area(frame) for each in seen], self._several)
        if self._pointed is None and seen:
            x, y = self._point[0] * self._size[0], self._point[1] * self._size[1]
            self._pointed = min(seen, key=lambda each: each.distance(frame, x, y)).number
        return [each.number == self._pointed for each in seen]


def _choose(areas: list[float], several: str) -> list[bool]:
    """Return which of the faces of a frame are used."""
    largest = max(areas, default=0.0)
    rivals = sum(area >= RIVAL * largest for area in areas)
    if several == "each":
        return [area >= RIVAL * largest for area in areas]
    first = areas.index(largest) if areas and (rivals == 1 or several == "largest") else None
    return [index == first for index in range(len(areas))]


def _patch(image: Image, face: Face) -> Patch:
    left, top, right, bottom = face.box
    margin = MARGIN * max(right - left, bottom - top)
    x, y = (
        min(max(0, int(place - margin)), size - 1) for place, size in ((left, image.shape[1]), (top, image.shape[0]))
    )
    part = image[y : max(y + 1, int(bottom + margin)), x : max(x + 1, int(right + margin))]
    reduction = max(1, int(2 * (bottom - top) / LARGE))
    height, width = (size // reduction for size in part.shape[:2])
    if reduction == 1 or not height or not width:
        return Patch(part.copy(), x, y, 1)
    part = part[: height * reduction, : width * reduction]
    return Patch(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), x, y, reduction)


def _cropped(patch: Patch, landmarks: Points) -> faces.Crop:
    half = (1 - 1 / patch.reduction) / 2  # pixels have their centres at whole numbers
    points = (landmarks - [patch.left, patch.top]) / patch.reduction - half
    return faces.warp(patch.image, faces.similarity(points, faces.TEMPLATE))
