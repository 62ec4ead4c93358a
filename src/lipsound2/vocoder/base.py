"""What every vocoder can do."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lipsound2.config import AudioConfig


@runtime_checkable
class Vocoder(Protocol):
    """Anything that turns log-mel into sound.

    Attributes:
        name: As in `--vocoder`.
        audio: The settings of the mels it was made for.
    """

    name: str
    audio: AudioConfig

    def __call__(self, mel: Float[Tensor, "mels frames"]) -> Float[Tensor, " samples"]:
        """Give frames * hop_length samples in [-1, 1], in memory that does not grow with the length."""
        ...
