"""A kind of room -> the blurred picture behind a speaker, in linear light."""

from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import Float32

Room = Literal["wall", "shelves", "lights", "window"]
ROOMS = get_args(Room)

Backdrop = Float32[np.ndarray, "size size 3"]


def furnish(room: Room, colour: tuple[float, float, float], size: int, rng: np.random.Generator) -> Backdrop:
    """Paint what is behind a speaker.

    Args:
        room: What kind of things there are.
        colour: Colour of the wall in linear light.
        size: Side of the picture in pixels.
        rng: Where the things come from.
    """
    y, x = np.mgrid[0:size, 0:size] / size
    slope = rng.uniform(-0.5, 0.5, 2)
    image = np.array(colour) * (1 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5))[..., None]
    things = {"wall": _nothing, "shelves": _shelves, "lights": _lights, "window": _window}
    things[room](image, rng)
    blur = size * rng.uniform(0.008, 0.03)
    return cv2.GaussianBlur(image, (0, 0), blur).clip(0, 1).astype(np.float32)


def _nothing(image: np.ndarray, rng: np.random.Generator) -> None:
    texture = cv2.resize(rng.standard_normal((24, 24)), image.shape[:2], interpolation=cv2.INTER_CUBIC)
    image *= (1 + 0.04 * texture)[..., None]


def _shelves(image: np.ndarray, rng: np.random.Generator) -> None:
    size = len(image)
    height = int(size * rng.uniform(0.16, 0.3))
    for top in range(int(-height * rng.random()), size, height):
        left = 0
        while left < size:
            width = int(size * rng.uniform(0.02, 0.07)) + 1
            book = rng.uniform(0.03, 0.3) * rng.uniform(0.5, 1, 3)
            first = top + int(height * rng.uniform(0.1, 0.35))
            image[max(first, 0) : max(top + int(height * 0.92), 0), left : left + width] = book
            left += width


def _lights(image: np.ndarray, rng: np.random.Generator) -> None:
    size = len(image)
    for _ in range(rng.integers(6, 18)):
        centre = tuple(int(v) for v in rng.integers(0, size, 2))
        glow = np.zeros_like(image)
        cv2.circle(
            glow,
            centre,
            int(size * rng.uniform(0.02, 0.08)),
            (rng.uniform(0.1, 0.5) * rng.uniform(0.6, 1, 3)).tolist(),
            -1,
        )
        image += glow


def _window(image: np.ndarray, rng: np.random.Generator) -> None:
    size = len(image)
    left, top = (int(size * v) for v in rng.uniform(-0.2, 0.6, 2))
    side = int(size * rng.uniform(0.35, 0.6))
    pane = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    pane[:] = rng.uniform(0.6, 0.95) * np.array([0.9, 0.97, 1.0])
    middle = left + side // 2
    image[max(top, 0) : max(top + side, 0), max(middle, 0) : max(middle + size // 40, 0)] *= 0.3
