"""Pixels -> what the encoder takes."""

from jaxtyping import Float, Int, UInt8
from torch import Tensor

from lipsound2.model.masks import length_mask


def standardize(
    video: UInt8[Tensor, "batch channels time height width"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channels time height width"]:
    """Scale each clip's pixels to zero mean and unit variance, so that light and camera matter less."""
    mask = length_mask(lengths, video.shape[2])[:, None, :, None, None].float()
    pixels = video.float() * mask
    count = lengths[:, None, None, None, None].float() * video[0, :, 0].numel()
    mean = pixels.sum(dim=(1, 2, 3, 4), keepdim=True) / count
    centred = (pixels - mean) * mask
    std = (centred.square().sum(dim=(1, 2, 3, 4), keepdim=True) / count).sqrt()
    return centred / std.clamp(min=1.0)
