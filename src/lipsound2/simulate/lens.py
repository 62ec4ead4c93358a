"""Frames in linear light -> what a real camera would have recorded of them, as 8-bit RGB."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from lipsound2.media import Image


@dataclass(frozen=True)
class Lens:
    """What a camera does to a picture.

    Attributes:
        exposure: Factor on the light.
        balance: Factors on red, green and blue.
        blur: Standard deviation of the unsharpness in pixels.
        detail: Share of the resolution that the camera really has.
        noise: Standard deviation of the sensor's noise at middle grey, from 0 to 1.
        flicker: Standard deviation of the exposure from frame to frame, relative.
        vignette: How much darker the corners are.
        crf: Constant rate factor of H.264: 18 is faithful, 35 is coarse.
    """

    exposure: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur: float = 0.4
    detail: float = 1.0
    noise: float = 0.01
    flicker: float = 0.0
    vignette: float = 0.0
    crf: int = 23


def record(image: Float32[np.ndarray, "size size 3"], lens: Lens, rng: np.random.Generator) -> Image:
    """Expose, blur and quantise a picture."""
    size = len(image)
    light: np.ndarray = (
        image * np.array(lens.balance, np.float32) * (lens.exposure * (1 + lens.flicker * rng.standard_normal()))
    )
    if lens.vignette:
        axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
        light = light * (1 - lens.vignette * (axis[:, None] + axis) / 2)[..., None]
    if lens.detail < 1:
        small = cv2.resize(light, None, fx=lens.detail, fy=lens.detail, interpolation=cv2.INTER_AREA)
        light = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    if lens.blur:
        light = cv2.GaussianBlur(light, (0, 0), lens.blur)
    if lens.noise:
        grain = rng.standard_normal(light.shape, np.float32) * lens.noise
        light = light + grain * np.sqrt(np.clip(light, 0.02, 1) * 0.22)
    return (255 * _to_srgb(light) + 0.5).astype(np.uint8)


def _to_srgb(light: np.ndarray) -> np.ndarray:
    """Encode linear light, rolling off the highlights instead of clipping them."""
    light = np.clip(light, 0, None)
    light = np.where(light > 0.8, 0.8 + 0.2 * np.tanh((light - 0.8) / 0.2), light)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
