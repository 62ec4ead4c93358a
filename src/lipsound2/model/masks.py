"""Lengths of padded sequences -> masks, and the places that are not padding.

Lengths live on the CPU, so that nothing waits for a GPU to ask it how long a clip is.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def length_mask(
    lengths: Int[Tensor, " batch"], size: int, device: torch.device | None = None
) -> Bool[Tensor, "batch size"]:
    """Mark the positions of each sequence that are not padding, on `device` or where the lengths are."""
    mask = torch.arange(size, device=lengths.device)[None] < lengths[:, None]
    return mask if device is None else mask.to(device, non_blocking=True)


def inside(lengths: Int[Tensor, " batch"], size: int, device: torch.device) -> Int[Tensor, " places"] | None:
    """List the places, in a batch of sequences laid end to end, that are not padding; None where all are.

    Args:
        lengths: Of each sequence; on the CPU, or the GPU is waited for.
        size: To which the sequences are padded.
        device: Where the list is wanted.
    """
    mask = length_mask(lengths.cpu(), size)
    if bool(mask.all()):
        return None
    return mask.flatten().nonzero()[:, 0].to(device, non_blocking=True)
