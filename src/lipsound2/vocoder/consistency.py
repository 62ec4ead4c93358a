"""A wave and the mel that it was made for -> the wave with a mel nearer to that one.

A flow makes sound of noise, so that its levels are right on average and scatter from frame to frame. What is missing
in each band of each frame is known, since the mel is given: bins are scaled by it, and since windows overlap and then
disagree, again.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import istft, log_mel, stft
from lipsound2.config import AudioConfig
from lipsound2.vocoder.prediction import between_bins

MOST = 2.0
"""Largest change of a level at once, in nats of magnitude: 17 dB."""


def context(audio: AudioConfig, times: int) -> int:
    """Return the mel frames to either side that can change a sample."""
    return times * -(-audio.win_length // audio.hop_length) + 1


def made_consistent(
    wave: Float[Tensor, "1 samples"], mel: Float[Tensor, "mels frames"], audio: AudioConfig, times: int
) -> Float[Tensor, "1 samples"]:
    """Bring the mel of a wave towards the given one."""
    spread = between_bins(audio, mel.device).to(mel)
    for _ in range(times):
        missing = (mel - log_mel(wave, audio)[0]).clamp(-MOST, MOST)
        scale = (spread @ missing).exp()
        # One window more than there are frames is centred on the end.
        scale = torch.cat([scale, scale[:, -1:]], dim=1)
        wave = istft(stft(wave, audio) * scale, audio, wave.shape[1])
    return wave
