"""Waveform <-> log-mel spectrogram, and a waveform at another rate.

Frame i of a spectrogram is centred on sample i * hop_length, and a wave of n samples has exactly
n // hop_length frames, so that mel frames and video frames stay aligned in clips of any length.
"""

from dataclasses import replace
from functools import lru_cache
from math import gcd, log
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from lipsound2.config import AudioConfig

MOMENTUM = 0.99
"""Of the fast Griffin-Lim algorithm."""
DECIBEL = 20 / log(10)
"""Decibels of one natural-log unit of magnitude."""
_OCTAVES = (250, 500, 1000, 2000, 4000, 8000)
_HERTZ_A_MEL = 200 / 3
_KNEE_HERTZ = 1000.0
_KNEE = _KNEE_HERTZ / _HERTZ_A_MEL
_LOG_STEP = float(np.log(6.4)) / 27


@runtime_checkable
class MelScale(Protocol):
    """The frames and bins of a mel spectrogram, as settings have them."""

    @property
    def sample_rate(self) -> int:
        """Samples a second."""

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""

    @property
    def n_mels(self) -> int:
        """Number of bins."""

    @property
    def f_min(self) -> float:
        """Lower end of the bins in Hz."""

    @property
    def f_max(self) -> float:
        """Upper end of the bins in Hz."""


def log_mel(wave: Float[Tensor, "batch samples"], config: AudioConfig) -> Float[Tensor, "batch mels frames"]:
    """Compute the natural log of the magnitude mel spectrogram, clamped at `config.floor`.

    The same as `librosa.feature.melspectrogram(power=1, center=True, pad_mode="constant")` without
    its last frame.
    """
    frames = wave.shape[-1] // config.hop_length
    magnitude = stft(wave[..., : frames * config.hop_length], config).abs()[..., :frames]
    return (mel_basis(config).to(magnitude) @ magnitude).clamp(min=config.floor).log()


def mel_to_magnitude(
    mel: Float[Tensor, "batch mels frames"], config: AudioConfig, iterations: int = 30
) -> Float[Tensor, "batch bins frames"]:
    """Estimate a non-negative magnitude spectrogram from log-mel.

    The least-squares solution is kept non-negative by multiplicative updates (Lee & Seung 2001).
    """
    basis = mel_basis(config).to(mel)
    target = mel.exp()
    magnitude = (_mel_inverse(config).to(mel) @ target).clamp(min=config.floor)
    wanted = basis.T @ target
    for _ in range(iterations):
        magnitude = magnitude * wanted / (basis.T @ (basis @ magnitude)).clamp(min=1e-10)
    return magnitude


def resample(wave: Float32[np.ndarray, " samples"], sample_rate: int, wanted: int) -> Float32[np.ndarray, " resampled"]:
    """Resample with a polyphase filter."""
    if sample_rate == wanted:
        return wave
    from scipy.signal import resample_poly  # takes most of a second to import, and is seldom needed

    common = gcd(sample_rate, wanted)
    return resample_poly(wave, wanted // common, sample_rate // common).astype(np.float32)


def griffin_lim(
    mel: Float[Tensor, "batch mels frames"],
    config: AudioConfig,
    iterations: int = 30,
    momentum: float = MOMENTUM,
    seed: int = 0,
    known: Float[Tensor, "batch known"] | None = None,
) -> Float[Tensor, "batch samples"]:
    """Turn log-mel into a waveform by the fast Griffin-Lim algorithm (Perraudin et al. 2013).

    Phases are estimated for windows shorter than those of the mel (`fine`). Harmonics are blurred in generated
    mels, and only noise has such a spectrum; short windows reduce its fluctuation.

    Args:
        mel: Log-mel.
        config: Its settings.
        iterations: Number of iterations; more is better and slower.
        momentum: Of the acceleration; 0 is the algorithm of 1984.
        seed: Random seed of the initial phases.
        known: The first samples, if already fixed; the rest continues them.

    Returns:
        Exactly frames * hop_length samples, in which the known ones cross-fade into the estimated.
    """
    short = fine(config)
    magnitude = fine_magnitude(mel, config)
    samples = mel.shape[-1] * config.hop_length
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(magnitude.shape, generator=generator).to(mel)
    phase = torch.polar(torch.ones_like(angle), angle)
    previous = torch.zeros_like(phase)
    for _ in range(iterations):
        wave = istft(magnitude * phase, short, samples)
        if known is not None:
            wave = torch.cat([known, wave[:, known.shape[1] :]], dim=1)
        rebuilt = stft(wave, short)
        accelerated = rebuilt + momentum / (1 + momentum) * (rebuilt - previous)
        phase = accelerated / accelerated.abs().clamp(min=1e-10)
        previous = rebuilt
    wave = _as_loud(istft(magnitude * phase, short, samples), mel, config)
    if known is not None:
        rise = torch.linspace(0, 1, known.shape[1]).to(mel)
        wave[:, : known.shape[1]] = rise * wave[:, : known.shape[1]] + (1 - rise) * known
    return wave


def fine(config: AudioConfig) -> AudioConfig:
    """Return settings with half the hop, windows of 25 ms (at 16 kHz), and every bin or every second one."""
    hop = config.hop_length // 2
    window = min(5 * hop, config.win_length)
    bins = 2 if config.n_fft % 4 == 0 and window <= config.n_fft // 2 else 1
    return replace(config, hop_length=hop, win_length=window, n_fft=config.n_fft // bins)


def fine_magnitude(mel: Float[Tensor, "batch mels frames"], config: AudioConfig) -> Float[Tensor, "batch bins frames2"]:
    """Estimate the magnitude spectrogram of the settings that `fine` returns from log-mel."""
    return _between(mel_to_magnitude(mel, config)[:, :: config.n_fft // fine(config).n_fft])


def _between(magnitude: Float[Tensor, "batch bins frames"]) -> Float[Tensor, "batch bins frames2"]:
    """Interpolate to twice as many frames plus one, repeating the last."""
    level = torch.cat([magnitude, magnitude[..., -1:]], dim=-1).clamp(min=1e-10).log()
    size = 2 * magnitude.shape[-1] + 1
    return torch.nn.functional.interpolate(level, size=size, mode="linear", align_corners=True).exp()


def _as_loud(
    wave: Float[Tensor, "batch samples"], mel: Float[Tensor, "batch mels frames"], config: AudioConfig
) -> Float[Tensor, "batch samples"]:
    """Scale a waveform to the level of a mel: magnitudes depend on the window length."""
    wanted, actual = mel.exp().sum(dim=(1, 2)), log_mel(wave, config).exp().sum(dim=(1, 2))
    return wave * (wanted / actual)[:, None]


@lru_cache(maxsize=8)
def mel_basis(config: AudioConfig) -> Float[Tensor, "mels bins"]:
    """Compute the triangular mel filters of Slaney's Auditory Toolbox (1998), each of unit area.

    The same as `librosa.filters.mel`, whose package keeps a cache on the disk and takes a third of a second to import.
    """
    bins = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate)
    edges = mel_frequencies(config.n_mels + 2, config.f_min, config.f_max)
    widths = np.diff(edges)
    slopes = edges[:, None] - bins
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(filters)


@lru_cache(maxsize=8)
def _mel_inverse(config: AudioConfig) -> Float[Tensor, "bins mels"]:
    return torch.linalg.pinv(mel_basis(config))


def mel_frequencies(count: int, low: float, high: float) -> Float64[np.ndarray, " count"]:
    """Return frequencies in Hz, evenly spaced on Slaney's mel scale from `low` to `high`.

    The scale is linear below 1 kHz (15 mel) and logarithmic above, where 27 mel are a factor of 6.4.
    """
    mels = np.linspace(_to_mel(low), _to_mel(high), count)
    linear = mels * _HERTZ_A_MEL
    return np.where(mels < _KNEE, linear, _KNEE_HERTZ * np.exp(_LOG_STEP * (mels - _KNEE)))


def octave_bins(scale: MelScale) -> dict[int, float]:
    """Return at which place among the mel bins, from 0, some frequencies an octave apart (Hz) lie."""
    centres = mel_frequencies(scale.n_mels + 2, scale.f_min, scale.f_max)[1:-1]
    seen = (hertz for hertz in _OCTAVES if centres[0] <= hertz <= scale.f_max)
    return {hertz: float(np.interp(hertz, centres, np.arange(scale.n_mels))) for hertz in seen}


def _to_mel(hertz: float) -> float:
    mel = hertz / _HERTZ_A_MEL
    return mel if hertz < _KNEE_HERTZ else _KNEE + float(np.log(hertz / _KNEE_HERTZ)) / _LOG_STEP


def _window(config: AudioConfig, like: Tensor) -> Float[Tensor, " window"]:
    return torch.hann_window(config.win_length, dtype=like.real.dtype, device=like.device)


def stft(wave: Float[Tensor, "batch samples"], config: AudioConfig) -> Tensor:
    """Compute the complex STFT of frames centred on every hop_length-th sample, with zero padding."""
    return torch.stft(
        wave,
        config.n_fft,
        config.hop_length,
        config.win_length,
        _window(config, wave),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )


def istft(spectrum: Tensor, config: AudioConfig, samples: int) -> Float[Tensor, "batch samples"]:
    """Compute the least-squares inverse STFT, of so many samples."""
    return torch.istft(
        spectrum,
        config.n_fft,
        config.hop_length,
        config.win_length,
        _window(config, spectrum),
        center=True,
        length=samples,
    )
