"""Log-mel -> waveform without training: Griffin-Lim (1984) with momentum (Perraudin et al. 2013)."""

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import griffin_lim
from lipsound2.config import AudioConfig


class GriffinLim:
    """Estimate phases in chunks that overlap and fade into each other.

    Args:
        audio: Settings of the mels.
        iterations: Of each chunk; more is better and slower.
        chunk: Mel frames at a time.
        overlap: Mel frames shared by neighbouring chunks.
    """

    name = "griffin-lim"

    def __init__(self, audio: AudioConfig, iterations: int = 60, chunk: int = 1000, overlap: int = 50) -> None:
        self.audio = audio
        self.iterations = iterations
        self.chunk = chunk
        self.overlap = overlap

    def __call__(self, mel: Float[Tensor, "mels frames"]) -> Float[Tensor, " samples"]:
        """Give frames * hop_length samples."""
        hop = self.audio.hop_length
        wave = mel.new_zeros(mel.shape[1] * hop)
        for start in range(0, max(mel.shape[1] - self.overlap, 1), self.chunk - self.overlap):
            piece = griffin_lim(mel[None, :, start : start + self.chunk], self.audio, self.iterations)[0]
            if start:
                shared = min(self.overlap * hop, len(piece))
                rise = torch.linspace(0, 1, shared, device=mel.device)
                old = wave[start * hop : start * hop + shared]
                piece[:shared] = rise * piece[:shared] + (1 - rise) * old
            wave[start * hop : start * hop + len(piece)] = piece
        return wave
