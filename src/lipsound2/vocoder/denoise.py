"""A wave and the bias of the model that generated it -> the denoised wave.

The output of a WaveGlow for a constant mel and zero noise is its bias, a stationary hum. Its magnitudes
are subtracted from those of the wave, as in NVIDIA's denoiser.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import istft, stft
from lipsound2.config import AudioConfig
from lipsound2.vocoder.base import Flows

FRAMES = 88
"""Frames of the constant mel."""


def bias(model: Flows) -> Float[Tensor, "bins 1"]:
    """Return the magnitudes of a model's bias."""
    config = model.config
    mel = torch.full((1, config.audio.n_mels, FRAMES), config.mel_mean, device=model.device)
    wave = model.infer(mel, mel.new_zeros(1, config.group, FRAMES * config.steps_per_frame))
    return stft(wave, config.audio).abs()[0].median(dim=1, keepdim=True).values


def denoise(
    wave: Float[Tensor, "1 samples"], hum: Float[Tensor, "bins 1"], strength: float, audio: AudioConfig
) -> Float[Tensor, "1 samples"]:
    """Subtract `strength` times the bias magnitudes from a wave's, clamped at 0."""
    spectrum = stft(wave, audio)
    magnitude = spectrum.abs()
    share = (1 - strength * hum / magnitude.clamp(min=audio.floor)).clamp(min=0)
    return istft(spectrum * share, audio, wave.shape[1])
