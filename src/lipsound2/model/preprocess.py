"""Face crops -> the model's window -> the encoder's input."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from lipsound2.config import VideoConfig
from lipsound2.faces import CANVAS, Crop
from lipsound2.model.masks import length_mask

Crops = UInt8[Tensor, "frames channels 160 160"]
View = UInt8[Tensor, "channels frames size size"]


def view(crops: Crops, config: VideoConfig) -> View:
    """Cut the model's window out of face crops and resize it.

    Args:
        crops: Face crops with the channels of `config`.
        config: Window and size.
    """
    left, top, side = config.window
    half, extent = CANVAS / 2, side / CANVAS
    x, y = (left + side / 2) / half - 1, (top + side / 2) / half - 1
    theta = torch.tensor([[[extent, -0.0, x], [0.0, extent, y]]])
    grid = functional.affine_grid(theta, [1, 1, config.size, config.size], align_corners=False)
    grid = grid.to(crops.device).expand(len(crops), -1, -1, -1)
    pixels = functional.grid_sample(crops.float(), grid, padding_mode="border", align_corners=False)
    return pixels.round().clamp(0, 255).to(torch.uint8).transpose(0, 1).contiguous()


def view_of(crop: Crop, config: VideoConfig) -> View:
    """Return the view of one RGB face crop, in the model's channels."""
    pixels = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[None] if config.channels == 1 else crop.transpose(2, 0, 1)
    return view(torch.from_numpy(np.ascontiguousarray(pixels))[None], config)


def standardize(
    video: UInt8[Tensor, "batch channels time height width"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channels time height width"]:
    """Scale each clip's pixels to zero mean and unit variance, to reduce the influence of lighting and camera."""
    mask = length_mask(lengths, video.shape[2], video.device)[:, None, :, None, None].float()
    pixels = video.float() * mask
    count = lengths.to(video.device, non_blocking=True)[:, None, None, None, None].float() * video[0, :, 0].numel()
    mean = pixels.sum(dim=(1, 2, 3, 4), keepdim=True) / count
    centred = (pixels - mean) * mask
    std = (centred.square().sum(dim=(1, 2, 3, 4), keepdim=True) / count).sqrt()
    return centred / std.clamp(min=1.0)
