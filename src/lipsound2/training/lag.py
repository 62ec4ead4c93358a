"""Predicted and true log-mel -> the true one, moved to where the two fit best.

Corpora that were cut by their sound keep pictures only to the nearest video frame. In GRID the best shift
differs from clip to clip with a standard deviation of about 20 ms, and both halves of a clip agree on it. No
picture foretells it, so a model that is taught such targets either blurs or learns clips by heart.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lipsound2.model.masks import length_mask

PRIOR = 0.05
"""By how much, relative to the error, the largest lag must fit better than none: keeps the mean lag near 0."""


def best_lags(
    true: Float[Tensor, "batch mels frames"],
    predicted: Float[Tensor, "batch mels frames"],
    lengths: Int[Tensor, " batch"],
    most: int,
) -> Int[Tensor, " batch"]:
    """Find, for each clip, the shift of the true mel with the least squared error.

    Args:
        true: Log-mel of the clip's sound.
        predicted: What the model makes of its picture.
        lengths: Frames of each clip, the rest being padding.
        most: Largest shift to either side, in mel frames.

    Returns:
        Mel frames by which the sound comes too late; negative where it comes too early.
    """
    lags = torch.arange(-most, most + 1, device=true.device)
    mask = length_mask(lengths.to(true.device), true.shape[-1])
    errors = torch.stack(
        [((shifted(true, lengths, lag.expand(len(true))) - predicted).square().mean(1) * mask).sum(1) for lag in lags]
    )
    return lags[(errors * (1 + PRIOR * (lags / most).square())[:, None]).argmin(dim=0)]


def shifted(
    mel: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"], lags: Int[Tensor, " batch"]
) -> Float[Tensor, "batch mels frames"]:
    """Move each mel ahead by its lag in frames; what is missing at an end repeats the frame there."""
    frames = torch.arange(mel.shape[-1], device=mel.device) + lags.to(mel.device)[:, None]
    frames = torch.minimum(frames.clamp(min=0), lengths.to(mel.device)[:, None] - 1)
    return mel.gather(2, frames[:, None].expand_as(mel))
