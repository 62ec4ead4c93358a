"""Two log-mels -> the correlation of their envelopes, a differentiable proxy for STOI and ESTOI.

Those two measures (Taal, Hendriks, Heusdens & Jensen 2011; Jensen & Taal 2016) correlate envelopes of
third-octave bands over 384 ms. Here the envelopes come from the mel, so that no waveform is needed.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lipsound2.audio import mel_basis
from lipsound2.config import AudioConfig
from lipsound2.model.masks import length_mask

BANDS = 15
LOWEST = 150.0
SECONDS = 0.384
STRIDE = 4
CLIP = 1 + 10 ** (15 / 20)
RANGE_DB = 35.0
TINY = 1e-6


def envelope_correlation(
    reference: Float[Tensor, "batch mels frames"],
    generated: Float[Tensor, "batch mels frames"],
    lengths: Int[Tensor, " batch"],
    config: AudioConfig,
) -> Float[Tensor, " batch"]:
    """Return the mean of a STOI and an ESTOI for each clip, 1 for equal mels.

    As in the two measures, frames that are silent in the reference do not count.

    Args:
        reference: Log-mel of the reference speech.
        generated: Log-mel of the generated speech.
        lengths: Frames of each clip, the rest being padding; clips shorter than 384 ms give 0.
        config: Settings of both.
    """
    width = round(SECONDS * config.sample_rate / config.hop_length)
    if reference.shape[-1] < width:
        return generated.new_zeros(len(generated))
    x, y = (_envelopes(mel.float(), config).unfold(2, width, STRIDE) for mel in (reference, generated))
    starts = torch.arange(x.shape[2], device=x.device) * STRIDE
    inside = starts + width <= lengths.to(x.device)[:, None]
    weight = (_loud(reference, lengths).unfold(1, width, STRIDE) & inside[..., None]).float()
    likeness = (_stoi(x, y)[..., None] + _estoi(x, y)) / 2
    return (likeness * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1)


def _stoi(
    x: Float[Tensor, "batch bands segments width"], y: Float[Tensor, "batch bands segments width"]
) -> Float[Tensor, "batch segments"]:
    """Correlate each band's envelope, scaled to equal energy and clipped at 15 dB above the reference's."""
    louder = (x.square().sum(-1, keepdim=True) / (y.square().sum(-1, keepdim=True) + TINY**2)).sqrt()
    return (_unit(x, -1) * _unit(torch.minimum(y * louder, x * CLIP), -1)).sum(dim=-1).mean(dim=1)


def _estoi(
    x: Float[Tensor, "batch bands segments width"], y: Float[Tensor, "batch bands segments width"]
) -> Float[Tensor, "batch segments width"]:
    """Correlate the spectra of each frame after each band has been normalised."""
    x, y = (_unit(_unit(envelope, -1), 1) for envelope in (x, y))
    return (x * y).sum(dim=1)


def _loud(mel: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"]) -> Bool[Tensor, "batch frames"]:
    """Return a mask of the frames that are not far below the loudest one."""
    level = (20 / math.log(10)) * mel.float().logsumexp(dim=1)
    inside = length_mask(lengths.to(mel.device), mel.shape[-1])
    return inside & (level > torch.where(inside, level, -torch.inf).amax(dim=1, keepdim=True) - RANGE_DB)


def _unit(x: Tensor, dim: int) -> Tensor:
    centred = x - x.mean(dim, keepdim=True)
    return centred / (centred.square().sum(dim, keepdim=True) + TINY**2).sqrt()


def _envelopes(mel: Float[Tensor, "batch mels frames"], config: AudioConfig) -> Float[Tensor, "batch bands frames"]:
    # The scale of a clip does not matter; below 1, no power overflows.
    power = torch.einsum("bm,nmt->nbt", _third_octaves(config).to(mel), (2 * (mel - mel.amax().detach())).exp())
    return (power + TINY**2).sqrt()


@lru_cache(maxsize=8)
def _third_octaves(config: AudioConfig) -> Float[Tensor, "bands mels"]:
    """Return the share of each mel filter that lies in each band, as weights of power."""
    basis = mel_basis(config)
    centres = LOWEST * 2 ** (torch.arange(BANDS) / 3)
    frequencies = torch.linspace(0, config.sample_rate / 2, basis.shape[1])[:, None]
    inside = (frequencies >= centres * 2 ** (-1 / 6)) & (frequencies < centres * 2 ** (1 / 6))
    share = basis / basis.amax(dim=1, keepdim=True)
    share = share / share.sum(dim=0).clamp(min=TINY)
    return ((share @ inside.to(share)) / basis.sum(dim=1, keepdim=True).square()).T.contiguous()
