"""Lengths of padded sequences -> masks."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def length_mask(lengths: Int[Tensor, " batch"], size: int) -> Bool[Tensor, "batch size"]:
    """Mark the positions of each sequence that are not padding."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]
