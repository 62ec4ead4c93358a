"""Waves -> the normalised log-mel features of NVIDIA's NeMo (`AudioToMelSpectrogramPreprocessor`).

Frame i is centred on sample i * hop_length, and a wave of n samples has n // hop_length frames. Padding
of a batch changes nothing.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lipsound2.audio import mel_basis
from lipsound2.model.masks import length_mask
from lipsound2.recognizer.config import FeatureConfig


class Features(NamedTuple):
    """Features of a padded batch; frames past a wave's length are 0."""

    values: Float[Tensor, "batch mels frames"]
    lengths: Int[Tensor, " batch"]


def features(wave: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"], config: FeatureConfig) -> Features:
    """Compute features as at inference.

    Args:
        wave: Samples in [-1, 1], with any padding.
        lengths: Samples of each wave.
        config: Settings.
    """
    return normalize(*log_power(wave, lengths, config))


def log_power(wave: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"], config: FeatureConfig) -> Features:
    """Compute the features before normalisation, as natural log of mel power."""
    emphasized = torch.cat([wave[:, :1], wave[:, 1:] - config.preemphasis * wave[:, :-1]], dim=1)
    spectrum = torch.stft(
        emphasized * length_mask(lengths, wave.shape[1]),
        config.n_fft,
        config.hop_length,
        config.win_length,
        torch.hann_window(config.win_length, periodic=False, device=wave.device),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    frames = lengths // config.hop_length
    power = torch.view_as_real(spectrum).square().sum(dim=-1)[..., : int(frames.max())]
    mel = mel_basis(config.filters()).to(power) @ power
    return _masked((mel + config.guard).log(), frames)


def normalize(values: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"]) -> Features:
    """Scale each mel bin to zero mean and unit (unbiased) variance over the frames of its own wave."""
    mask = length_mask(lengths, values.shape[-1])[:, None]
    count = lengths[:, None, None].clamp(min=1)
    mean = (values * mask).sum(dim=-1, keepdim=True) / count
    centred = (values - mean) * mask
    std = (centred.square().sum(dim=-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return Features(centred / (std + 1e-5), lengths)


def quiet_frames(
    values: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"], below: float = 25.0, reach: int = 10
) -> Bool[Tensor, "batch frames"]:
    """Return a mask of frames without speech nearby.

    Args:
        values: As `log_power` returns them.
        lengths: Frames of each wave.
        below: Level of a quiet frame in dB below the loudest.
        reach: Frames on each side that must be quiet too, which excludes the closures of stops.
    """
    inside = length_mask(lengths, values.shape[-1])
    power = values.exp().mean(dim=1) * inside
    nearby = torch.nn.functional.max_pool1d(power[:, None], 2 * reach + 1, 1, reach)[:, 0]
    return (nearby < power.amax(dim=1, keepdim=True) * 10 ** (-below / 10)) & inside


def _masked(values: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"]) -> Features:
    return Features(values * length_mask(lengths, values.shape[-1])[:, None], lengths)
