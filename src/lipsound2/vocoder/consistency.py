"""A wave and the mel that it was generated from -> the wave with a mel closer to that one.

A flow generates audio from noise, so that its levels are right on average and vary from frame to frame. The error in
each band of each frame is known, since the mel is given: bins are scaled by it, iteratively, since windows overlap.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import istft, log_mel, stft
from lipsound2.config import AudioConfig
from lipsound2.vocoder.prediction import between_bins

MOST = 2.0
"""Largest change of a level per iteration, in nats of magnitude: 17 dB."""


def context(audio: AudioConfig, times: int) -> int:
    """Return the receptive field to either side of a sample, in mel frames."""
    return times * -(-audio.win_length // audio.hop_length) + 1


def made_consistent(
    wave: Float[Tensor, "1 samples"], mel: Float[Tensor, "mels frames"], audio: AudioConfig, times: int
) -> Float[Tensor, "1 samples"]:
    """Scale a wave's spectrogram towards the given mel."""
    spread = between_bins(audio, mel.device).to(mel)
    for _ in range(times):
        missing = (mel - log_mel(wave, audio)[0]).clamp(-MOST, MOST)
        scale = (spread @ missing).exp()
        # One window more than there are frames is centred on the end.
        scale = torch.cat([scale, scale[:, -1:]], dim=1)
        wave = istft(stft(wave, audio) * scale, audio, wave.shape[1])
    return wave
