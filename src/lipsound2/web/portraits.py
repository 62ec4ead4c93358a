"""A video and its face tracks -> a picture of each face, to choose from."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from lipsound2.faces import FaceTrack
from lipsound2.media import Frame, Image
from lipsound2.trails import Box

SIDE = 160
"""Pixels of a picture's side."""
MARGIN = 0.35
"""Of the box, that is shown around it."""


def portraits(frames: Iterable[Frame], tracks: Sequence[FaceTrack]) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each track and a JPEG file of its face in the middle of its time, in order of time."""
    due = sorted(((track.start + track.stop) // 2, number) for number, track in enumerate(tracks))
    for index, image in frames:
        while due and due[0][0] <= index:
            _, number = due.pop(0)
            track = tracks[number]
            yield number, _jpeg(_cut(image, track.boxes[min(index - track.start, len(track) - 1)]))
        if not due:
            return


def _cut(image: Image, box: Box) -> UInt8[np.ndarray, "side side 3"]:
    left, top, right, bottom = box
    x, y, half = (left + right) / 2, (top + bottom) / 2, (0.5 + MARGIN) * max(right - left, bottom - top)
    scale = SIDE / (2 * half)
    matrix = np.array([[scale, 0, SIDE / 2 - scale * x], [0, scale, SIDE / 2 - scale * y]])
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def _jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
