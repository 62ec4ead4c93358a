"""Two waves -> how far their spectra are apart at several resolutions (Yamamoto, Song & Kim 2020)."""

import torch
from jaxtyping import Float
from torch import Tensor

WINDOWS = (256, 512, 1024)
"""Samples of each Fourier transform; neighbours share three quarters."""

QUIET = 1e-3
"""Magnitude below which differences do not count."""


def spectral_distance(made: Float[Tensor, "batch samples"], true: Float[Tensor, "batch samples"]) -> Float[Tensor, ""]:
    """Give the spectral convergence plus the mean difference of logarithms, a mean over the resolutions."""
    terms = []
    for window in WINDOWS:
        first, second = (_magnitude(wave, window) for wave in (made, true))
        terms.append(((second - first).norm(dim=(1, 2)) / second.norm(dim=(1, 2))).mean())
        terms.append((first.log() - second.log()).abs().mean())
    return torch.stack(terms).sum() / len(WINDOWS)


def _magnitude(wave: Float[Tensor, "batch samples"], window: int) -> Float[Tensor, "batch bins frames"]:
    shape = torch.hann_window(window, device=wave.device, dtype=wave.dtype)
    padded = torch.nn.functional.pad(wave[:, None], (window // 2, window // 2), mode="reflect")[:, 0]
    # As `torch.stft` does, whose way back takes longer.
    spectrum = torch.fft.rfft(padded.unfold(1, window, window // 4) * shape).transpose(1, 2)
    # The root of the clamped square: its slope stays finite at silence.
    return (spectrum.real.square() + spectrum.imag.square()).clamp(min=QUIET**2).sqrt()
