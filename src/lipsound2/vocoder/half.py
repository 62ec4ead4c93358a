"""A device -> whether and how networks compute in half precision on it."""

import torch


def half_is_fast(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 faster than in single precision."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def halved(device: torch.device, half: bool) -> torch.autocast:
    """Compute in bfloat16 where `half` is set."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
