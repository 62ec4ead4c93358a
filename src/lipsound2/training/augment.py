"""Training audio and features -> augmented ones: speed, noise, blur and SpecAugment.

Blur and noise bring reference speech closer to generated speech, whose mels are smooth and whose phases
are estimated.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lipsound2.config import in_range
from lipsound2.recognizer.features import Features

Wave = Float32[np.ndarray, " samples"]


@dataclass(frozen=True)
class SpeechAugmentConfig:
    """Augmentation of training speech; 0 switches one off.

    Attributes:
        speed: Largest relative change of speed, and of pitch with it.
        noise: Share of clips to which noise of a random colour is added.
        snr: Lowest and highest signal-to-noise ratio in dB.
        empty: Share of clips that noise or silence without words replaces.
        blur: Share of clips whose features are blurred.
        blur_frames: Largest standard deviation of the blur in frames.
        blur_mels: Largest standard deviation of the blur in mel bins.
        jitter: Largest standard deviation of noise on the log features.
        time_masks: Number of time masks (SpecAugment, Park et al. 2019).
        time_width: Their largest width in frames.
        mel_masks: Number of frequency masks.
        mel_width: Their largest width in mel bins.
    """

    speed: float = 0.15
    noise: float = 0.4
    snr: tuple[float, float] = (5.0, 40.0)
    empty: float = 0.03
    blur: float = 0.5
    blur_frames: float = 2.0
    blur_mels: float = 1.5
    jitter: float = 0.3
    time_masks: int = 2
    time_width: int = 25
    mel_masks: int = 2
    mel_width: int = 12

    def __post_init__(self) -> None:
        in_range(self, 0, 1, "speed", "noise", "empty", "blur")
        in_range(self, 0, inf, "blur_frames", "blur_mels", "jitter")
        in_range(self, 0, inf, "time_masks", "time_width", "mel_masks", "mel_width")


def vary_speed(wave: Wave, rate: float) -> Float32[np.ndarray, " newsamples"]:
    """Resample a wave to play `rate` times as fast."""
    places = np.arange(0, len(wave), rate)
    return np.interp(places, np.arange(len(wave)), wave).astype(np.float32)


def colored_noise(samples: int, slope: float, rng: np.random.Generator) -> Wave:
    """Generate noise of unit power with a spectrum of 1 / f^`slope`: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-slope / 2)
    noise = np.fft.irfft(spectrum, samples)
    return (noise / max(float(noise.std()), 1e-9)).astype(np.float32)


def add_noise(wave: Wave, config: SpeechAugmentConfig, rng: np.random.Generator) -> Wave:
    """Add noise of a random colour at a random signal-to-noise ratio."""
    ratio = 10 ** (-rng.uniform(*config.snr) / 20)
    return wave + np.float32(wave.std() * ratio) * colored_noise(len(wave), rng.uniform(0, 2), rng)


def only_noise(samples: int, rng: np.random.Generator) -> Wave:
    """Generate noise of a random colour and level, half of the time with fluctuating loudness."""
    noise = colored_noise(samples, rng.uniform(0, 2), rng) * np.float32(10 ** rng.uniform(-4, -1))
    if rng.random() < 0.5:
        return noise
    envelope = colored_noise(samples, 2.0, rng)
    return noise * np.exp(envelope * np.float32(rng.uniform(0, 1.5)))


def blur(
    values: Float[Tensor, "batch mels frames"], config: SpeechAugmentConfig, generator: torch.Generator
) -> Float[Tensor, "batch mels frames"]:
    """Blur a share of the clips by a Gaussian of random width in time and mel, and jitter them."""
    batch = len(values)
    chosen = torch.rand(batch, generator=generator) < config.blur
    sigmas = torch.rand(3, batch, generator=generator) * chosen
    values = _smooth(values, sigmas[0] * config.blur_frames)
    values = _smooth(values.transpose(1, 2), sigmas[1] * config.blur_mels).transpose(1, 2)
    noise = torch.randn(values.shape, generator=generator).to(values)
    return values + noise * (sigmas[2] * config.jitter).to(values)[:, None, None]


def mask(features: Features, config: SpeechAugmentConfig, generator: torch.Generator) -> Features:
    """Set random stretches of time and bands of mel bins to 0, the mean of normalised features."""
    values, lengths = features
    frames = _bands(lengths.cpu(), values.shape[2], config.time_masks, config.time_width, generator)
    mels = _bands(
        torch.full((len(values),), values.shape[1]), values.shape[1], config.mel_masks, config.mel_width, generator
    )
    hidden = frames[:, None] | mels[:, :, None]
    return Features(values.masked_fill(hidden.to(values.device), 0.0), lengths)


def _bands(sizes: Tensor, size: int, count: int, width: int, generator: torch.Generator) -> Tensor:
    """Return a mask of `count` random bands of at most `width` places in each row."""
    place = torch.arange(size)
    hidden = torch.zeros(len(sizes), size, dtype=torch.bool)
    for _ in range(count):
        widths = (torch.rand(len(sizes), generator=generator) * (width + 1)).long()
        starts = (torch.rand(len(sizes), generator=generator) * (sizes - widths).clamp(min=1)).long()
        hidden |= (place >= starts[:, None]) & (place < (starts + widths)[:, None])
    return hidden


def _smooth(values: Float[Tensor, "batch rows places"], sigmas: Float[Tensor, " batch"]) -> Tensor:
    """Convolve each clip along its last axis with a Gaussian of its own width; 0 for no change."""
    reach = torch.arange(-4, 5, dtype=values.dtype)
    kernels = torch.exp(-0.5 * (reach / sigmas[:, None].clamp(min=1e-3)).square())
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).to(values)
    padded = torch.nn.functional.pad(values, (4, 4), mode="replicate")
    rows = padded.transpose(0, 1)
    return torch.nn.functional.conv1d(rows, kernels[:, None], groups=len(values)).transpose(0, 1)
