"""Interface of vocoders."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lipsound2.config import AudioConfig


@runtime_checkable
class Vocoder(Protocol):
    """Interface of log-mel -> waveform.

    Attributes:
        name: As in `--vocoder`.
        audio: Settings of its mels.
    """

    name: str
    audio: AudioConfig

    def __call__(self, mel: Float[Tensor, "mels frames"]) -> Float[Tensor, " samples"]:
        """Return frames * hop_length samples in [-1, 1], in memory that does not grow with the length."""
        ...
