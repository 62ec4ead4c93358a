"""A device -> whether to use half precision, and its autocast context."""

import torch


def half_is_fast(device: torch.device) -> bool:
    """Return whether a device computes faster in bfloat16 than in single precision."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def halved(device: torch.device, half: bool) -> torch.autocast:
    """Return a context that computes in bfloat16 if `half` is set."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
