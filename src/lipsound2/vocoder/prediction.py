"""Log-mel -> linear prediction: the spectral envelope as a filter that whitens audio, and its inverse.

The mel is the level of each band. A filter with that spectrum, and its inverse, follow from it
without training: the power spectrum gives the autocorrelation (Wiener & Khinchin), and that the
predictor of each sample from those before it (Levinson & Durbin). The residual, divided by its expected
standard deviation, is nearly white with unit variance. Both directions are exact, and the Jacobian is
triangular with 1 / gain on its diagonal, so this is a flow without parameters.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import mel_basis, mel_frequencies
from lipsound2.config import AudioConfig

WHITE = 1e-4
"""White noise added to the spectrum, as a share of its power: poles stay inside the unit circle."""


class Predictor(NamedTuple):
    """Linear predictor of a sample from those before it, one per hop.

    Attributes:
        weights: Coefficients of the previous samples, the latest first.
        gain: Standard deviation of the residual.
    """

    weights: Float[Tensor, "batch frames order"]
    gain: Float[Tensor, "batch frames"]


def predictor(mel: Float[Tensor, "batch mels frames"], audio: AudioConfig, order: int) -> Predictor:
    """Return the best linear predictor of audio from its log-mel."""
    level = mel.double() - _filter_areas(audio, mel.device).log()[:, None]
    magnitude = (between_bins(audio, mel.device) @ level).exp()
    correlation = magnitude.square().transpose(1, 2) @ _cosines(audio, order, mel.device)
    # A hop is between the frame that is centred on its start and the next one.
    following = torch.cat([correlation[:, 1:], correlation[:, -1:]], dim=1)
    weights, error = _levinson((correlation + following) / 2)
    energy = torch.hann_window(audio.win_length, dtype=torch.float64).square().sum()
    return Predictor(weights.to(mel), (error / energy).sqrt().to(mel))


def whiten(
    wave: Float[Tensor, "batch samples"], by: Predictor, past: Float[Tensor, "batch order"] | None = None
) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, " batch"]]:
    """Return the prediction residual of a wave that follows `past` or silence.

    Returns:
        The residual, and the log-determinant.
    """
    batch, frames, order = by.weights.shape
    hop = wave.shape[1] // frames
    padded = torch.cat([wave.new_zeros(batch, order) if past is None else past, wave], dim=1)
    # One row a hop, with the `order` samples that come before it.
    rows = padded.unfold(1, order + hop, hop)
    residual = rows[..., order:].clone()
    for lag in range(1, order + 1):
        residual -= by.weights[..., lag - 1, None] * rows[..., order - lag : order - lag + hop]
    return (residual / by.gain[..., None]).reshape(batch, -1), -hop * by.gain.log().sum(dim=1)


def colour(
    residual: Float[Tensor, "batch samples"], by: Predictor, past: Float[Tensor, "batch order"] | None = None
) -> Float[Tensor, "batch samples"]:
    """Invert `whiten`, sample by sample, in double precision on the CPU."""
    before = residual.new_zeros(len(residual), by.weights.shape[2]) if past is None else past
    weights, gain, history = (part.detach().cpu().double().numpy() for part in (*by, before))
    source = residual.detach().cpu().double().numpy().reshape(*gain.shape, -1) * gain[..., None]
    waves = np.stack([_recursion(*parts) for parts in zip(source, weights, history, strict=True)])
    return torch.from_numpy(waves).to(residual)


def _recursion(rows: np.ndarray, filters: np.ndarray, past: np.ndarray) -> np.ndarray:
    """Run the filter of each hop, with the state that the hop before it left."""
    # Takes most of a second to import, and only WaveGlow needs it.
    from scipy.linalg import hankel
    from scipy.signal import lfilter

    order, hop = filters.shape[1], rows.shape[1]
    wave = np.concatenate([past, np.zeros(rows.size)])
    reach = min(order, hop)
    for i, (row, weights) in enumerate(zip(rows, filters, strict=True)):
        start = order + i * hop
        source = row.copy()
        source[:reach] += hankel(weights)[:reach] @ wave[start - order : start][::-1]
        wave[start : start + hop] = lfilter([1.0], np.concatenate([[1.0], -weights]), source)
    return wave[order:]


def _levinson(
    correlation: Float[Tensor, "batch frames lags"],
) -> tuple[Float[Tensor, "batch frames order"], Float[Tensor, "batch frames"]]:
    """Solve for the predictor and the mean square of its error (Levinson & Durbin)."""
    order = correlation.shape[-1] - 1
    error = correlation[..., 0] * (1 + WHITE)
    weights = correlation[..., :0]
    for i in range(order):
        missed = correlation[..., i + 1] - (weights * correlation[..., 1 : i + 1].flip(-1)).sum(dim=-1)
        reflection = missed / error
        weights = torch.cat([weights - reflection[..., None] * weights.flip(-1), reflection[..., None]], dim=-1)
        error = error * (1 - reflection.square())
    return weights, error


@lru_cache(maxsize=8)
def _filter_areas(audio: AudioConfig, device: torch.device) -> Float[Tensor, " mels"]:
    return mel_basis(audio).sum(dim=1).double().to(device)


@lru_cache(maxsize=8)
def _cosines(audio: AudioConfig, order: int, device: torch.device) -> Float[Tensor, "bins lags"]:
    """Return the inverse Fourier transform of a power spectrum into its first lags, as a matrix."""
    bins, lags = np.arange(audio.n_fft // 2 + 1), np.arange(order + 1)
    both_sides = np.where((bins == 0) | (2 * bins == audio.n_fft), 1, 2) / audio.n_fft
    return torch.from_numpy(both_sides[:, None] * np.cos(2 * np.pi * np.outer(bins, lags) / audio.n_fft)).to(device)


@lru_cache(maxsize=8)
def between_bins(audio: AudioConfig, device: torch.device) -> Float[Tensor, "bins mels"]:
    """Interpolate between the centres of the mel filters; outside of them the nearest value is used."""
    centres = mel_frequencies(audio.n_mels + 2, audio.f_min, audio.f_max)[1:-1]
    bins = np.linspace(0, audio.sample_rate / 2, audio.n_fft // 2 + 1)
    columns = [np.interp(bins, centres, row) for row in np.eye(audio.n_mels)]
    return torch.from_numpy(np.stack(columns, axis=1)).to(device)
