"""Outputs of a vocoder or a recogniser, and their targets -> losses."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lipsound2.recognizer.jasper import Posteriors

WINDOWS = (256, 512, 1024)
"""FFT sizes; the hop is a quarter."""

QUIET = 1e-3
"""Magnitude below which differences do not count."""


def spectral_distance(
    generated: Float[Tensor, "batch samples"], reference: Float[Tensor, "batch samples"]
) -> Float[Tensor, ""]:
    """Return the multi-resolution STFT loss: spectral convergence plus log-magnitude distance.

    Source: Yamamoto, Song & Kim 2020.
    """
    terms = []
    for window in WINDOWS:
        first, second = (_magnitude(wave, window) for wave in (generated, reference))
        terms.append(((second - first).norm(dim=(1, 2)) / second.norm(dim=(1, 2))).mean())
        terms.append((first.log() - second.log()).abs().mean())
    return torch.stack(terms).sum() / len(WINDOWS)


def ctc_loss(
    posteriors: Posteriors, targets: Int[Tensor, "batch symbols"], target_lengths: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Return the negative log-likelihood per character, over all characters of the batch.

    So a clip without words has the same weight as others. A target that is too long for its posteriors
    has a loss of 0, not infinity.
    """
    values = posteriors.values
    losses = torch.nn.functional.ctc_loss(
        values.transpose(0, 1),
        targets,
        posteriors.lengths,
        target_lengths,
        blank=values.shape[-1] - 1,
        reduction="sum",
        zero_infinity=True,
    )
    return losses / target_lengths.sum().clamp(min=1)


def quiet_loss(
    posteriors: Posteriors, quiet: Bool[Tensor, "batch frames"], target_lengths: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Return the negative log-likelihood of blanks where it is quiet, over all characters of the batch.

    CTC does not constrain the times of characters. With a large receptive field a network may output the first
    words in the silence before them and the last in the silence after them; this loss prevents it.
    """
    blanks = posteriors.values[..., -1]
    return -(blanks * quiet[:, : blanks.shape[1]]).sum() / target_lengths.sum().clamp(min=1)


def _magnitude(wave: Float[Tensor, "batch samples"], window: int) -> Float[Tensor, "batch bins frames"]:
    shape = torch.hann_window(window, device=wave.device, dtype=wave.dtype)
    padded = torch.nn.functional.pad(wave[:, None], (window // 2, window // 2), mode="reflect")[:, 0]
    # The same as `torch.stft`, whose backward pass is slower.
    spectrum = torch.fft.rfft(padded.unfold(1, window, window // 4) * shape).transpose(1, 2)
    # The root of the clamped square: its gradient stays finite at silence.
    return (spectrum.real.square() + spectrum.imag.square()).clamp(min=QUIET**2).sqrt()
