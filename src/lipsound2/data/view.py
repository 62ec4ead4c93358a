"""Face crops -> what the encoder sees: a window of the canvas, jittered in training, at the model's size."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from lipsound2.config import AugmentConfig, VideoConfig
from lipsound2.data.sample import decode_crops
from lipsound2.data.shards import Entry, read_member, reading
from lipsound2.faces import CANVAS

Crops = UInt8[Tensor, "frames channels 160 160"]
View = UInt8[Tensor, "channels frames size size"]


@dataclass(frozen=True)
class Jitter:
    """One random change of a clip's picture, the same for all of its frames.

    Attributes:
        angle: Rotation in radians.
        scale: Factor of the window's side.
        shift: Of the window's centre, right and down, in pixels of the canvas.
        flip: Mirror left and right.
        contrast: Factor around the mean.
        brightness: Added to each pixel.
        erased: Rectangle (left, top, right, bottom) as fractions of the view, painted in one grey.
    """

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    flip: bool = False
    contrast: float = 1.0
    brightness: float = 0.0
    erased: tuple[float, float, float, float] | None = None


def read_crops(folder: Path, entry: Entry, channels: int) -> Crops:
    """Read the face of a prepared clip, in grey (1 channel) or colour (3)."""
    with reading(folder, entry):
        pixels = decode_crops(read_member(folder, entry, "mp4"), "gray" if channels == 1 else "rgb24")
    crops = torch.from_numpy(pixels)
    return crops[:, None] if channels == 1 else crops.permute(0, 3, 1, 2)


def draw_jitter(config: AugmentConfig, rng: np.random.Generator) -> Jitter:
    """Draw a change of the picture."""
    width, height = rng.uniform(0.1, 0.33, 2)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    erased = (left, top, left + width, top + height)
    return Jitter(
        angle=math.radians(rng.uniform(-config.rotate, config.rotate)),
        scale=1 + rng.uniform(-config.scale, config.scale),
        shift=(rng.uniform(-config.shift, config.shift), rng.uniform(-config.shift, config.shift)),
        flip=rng.random() < config.flip,
        contrast=1 + rng.uniform(-config.contrast, config.contrast),
        brightness=rng.uniform(-config.brightness, config.brightness),
        erased=erased if rng.random() < config.erase else None,
    )


def view(crops: Crops, config: VideoConfig, jitter: Jitter | None = None) -> View:
    """Cut the model's window out of face crops and resize it.

    Args:
        crops: Face crops with as many channels as `config` wants.
        config: Window and size.
        jitter: A change for training; without it the plain window is taken.
    """
    change = jitter or Jitter()
    pixels = crops.float()
    grid = functional.affine_grid(_theta(config, change)[None], [1, 1, config.size, config.size], align_corners=False)
    grid = grid.to(pixels.device).expand(len(crops), -1, -1, -1)
    pixels = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    if jitter is not None:
        mean = pixels.mean()
        pixels = (pixels - mean) * change.contrast + mean + change.brightness
        if change.erased is not None:
            left, top, right, bottom = (round(edge * config.size) for edge in change.erased)
            pixels[..., top:bottom, left:right] = mean
    return pixels.round().clamp(0, 255).to(torch.uint8).transpose(0, 1).contiguous()


def hide(seen: View, share: float, fps: int, rng: np.random.Generator) -> View:
    """Hide stretches of up to 0.4 s, in each second one with probability `share`, behind the mean picture."""
    mean = seen.float().mean(dim=1, keepdim=True).round().to(torch.uint8)
    hidden = torch.zeros(seen.shape[1], dtype=torch.bool)
    for second in range(0, len(hidden), fps):
        if rng.random() < share:
            start = second + int(rng.integers(fps))
            hidden[start : start + int(rng.integers(1, round(0.4 * fps) + 1))] = True
    return torch.where(hidden[:, None, None].to(seen.device), mean, seen)


def stretch(frames: Float[Tensor, "channels frames"], length: int) -> Float[Tensor, "channels length"]:
    """Resample along time by linear interpolation."""
    return functional.interpolate(frames[None], size=length, mode="linear", align_corners=False)[0]


def _theta(config: VideoConfig, change: Jitter) -> Float[Tensor, "2 3"]:
    """Map the view's coordinates (-1..1) to those of the canvas (-1..1)."""
    left, top, side = config.window
    half = CANVAS / 2
    extent = side / CANVAS * change.scale
    x = (left + side / 2 + change.shift[0]) / half - 1
    y = (top + side / 2 + change.shift[1]) / half - 1
    cos, sin = extent * math.cos(change.angle), extent * math.sin(change.angle)
    mirror = -1 if change.flip else 1
    return torch.tensor([[mirror * cos, -sin, x], [mirror * sin, cos, y]])
