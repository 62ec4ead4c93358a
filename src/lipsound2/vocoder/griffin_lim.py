"""Log-mel -> waveform without training: Griffin-Lim (1984) with momentum (Perraudin et al. 2013)."""

from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import griffin_lim
from lipsound2.config import AudioConfig
from lipsound2.runtime.windows import striding


class GriffinLim:
    """Estimate phases in chunks, each continuing the one before.

    Args:
        audio: Settings of the mels.
        iterations: Iterations per chunk; more is better and slower.
        chunk: Mel frames per chunk.
        overlap: Mel frames shared by neighbouring chunks.
    """

    name = "griffin-lim"

    def __init__(self, audio: AudioConfig, iterations: int = 30, chunk: int = 1000, overlap: int = 50) -> None:
        self.audio = audio
        self.iterations = iterations
        self.chunk = chunk
        self.overlap = overlap

    def __call__(self, mel: Float[Tensor, "mels frames"]) -> Float[Tensor, " samples"]:
        """Return frames * hop_length samples."""
        hop = self.audio.hop_length
        wave = mel.new_zeros(mel.shape[1] * hop)
        for start in striding(mel.shape[1], self.chunk, self.overlap):
            piece = mel[None, :, start : start + self.chunk]
            known = wave[None, start * hop : (start + self.overlap) * hop] if start else None
            chunk = griffin_lim(piece, self.audio, self.iterations, known=known)[0]
            wave[start * hop : start * hop + len(chunk)] = chunk
        return wave
