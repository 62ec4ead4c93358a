"""Lengths of padded sequences -> masks, and the indices that are not padding.

Lengths are kept on the CPU, so that reading them never synchronises with a GPU.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def length_mask(
    lengths: Int[Tensor, " batch"], size: int, device: torch.device | None = None
) -> Bool[Tensor, "batch size"]:
    """Return a mask that is False at padding, on `device` or where the lengths are."""
    mask = torch.arange(size, device=lengths.device)[None] < lengths[:, None]
    return mask if device is None else mask.to(device, non_blocking=True)


def inside(lengths: Int[Tensor, " batch"], size: int, device: torch.device) -> Int[Tensor, " places"] | None:
    """Return the indices, in a flattened batch of sequences, that are not padding; None without padding.

    Args:
        lengths: Of each sequence; on the CPU, to avoid synchronisation with a GPU.
        size: Length of the padded sequences.
        device: Device of the result.
    """
    mask = length_mask(lengths.cpu(), size)
    if bool(mask.all()):
        return None
    return mask.flatten().nonzero()[:, 0].to(device, non_blocking=True)
