"""What a vocoder and a recogniser produce and what they should -> losses."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lipsound2.recognizer.jasper import Posteriors

WINDOWS = (256, 512, 1024)
"""Samples of each Fourier transform; neighbours share three quarters."""

QUIET = 1e-3
"""Magnitude below which differences do not count."""


def spectral_distance(made: Float[Tensor, "batch samples"], true: Float[Tensor, "batch samples"]) -> Float[Tensor, ""]:
    """Return the spectral convergence plus the mean difference of logarithms, averaged over several resolutions.

    Source: Yamamoto, Song & Kim 2020.
    """
    terms = []
    for window in WINDOWS:
        first, second = (_magnitude(wave, window) for wave in (made, true))
        terms.append(((second - first).norm(dim=(1, 2)) / second.norm(dim=(1, 2))).mean())
        terms.append((first.log() - second.log()).abs().mean())
    return torch.stack(terms).sum() / len(WINDOWS)


def ctc_loss(
    posteriors: Posteriors, targets: Int[Tensor, "batch symbols"], target_lengths: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Return the negative log-likelihood a character, over all characters of the batch.

    So a clip without words counts as much as others do. A target that is too long for its posteriors
    costs nothing instead of infinity.
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

    CTC does not care when a character is said. With a wide view a network may say the first words in the
    silence before them and the last in the silence behind them; this keeps it from that.
    """
    blanks = posteriors.values[..., -1]
    return -(blanks * quiet[:, : blanks.shape[1]]).sum() / target_lengths.sum().clamp(min=1)


def _magnitude(wave: Float[Tensor, "batch samples"], window: int) -> Float[Tensor, "batch bins frames"]:
    shape = torch.hann_window(window, device=wave.device, dtype=wave.dtype)
    padded = torch.nn.functional.pad(wave[:, None], (window // 2, window // 2), mode="reflect")[:, 0]
    # As `torch.stft` does, whose way back takes longer.
    spectrum = torch.fft.rfft(padded.unfold(1, window, window // 4) * shape).transpose(1, 2)
    # The root of the clamped square: its slope stays finite at silence.
    return (spectrum.real.square() + spectrum.imag.square()).clamp(min=QUIET**2).sqrt()
