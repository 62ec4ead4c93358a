"""Interface of vocoders."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.config import AudioConfig
from lipsound2.vocoder.config import WaveGlowConfig
from lipsound2.vocoder.prediction import Predictor


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


@runtime_checkable
class Flows(Protocol):
    """Interface of what a `WaveGlowVocoder` runs: a `WaveGlow`, or an exported one; methods as there."""

    config: WaveGlowConfig

    @property
    def device(self) -> torch.device:
        """Device of its inputs and outputs."""
        ...

    def unflow(
        self,
        mel: Float[Tensor, "batch mels frames"],
        z: Float[Tensor, "batch group steps"],
        integers: bool = False,
    ) -> Float[Tensor, "batch samples"]:
        """Map noise to audio, or to the residual of its linear prediction."""
        ...

    def predictor(self, mel: Float[Tensor, "batch mels frames"]) -> Predictor:
        """Return the linear predictor for a mel."""
        ...

    def infer(
        self, mel: Float[Tensor, "batch mels frames"], z: Float[Tensor, "batch group steps"]
    ) -> Float[Tensor, "batch samples"]:
        """Map noise to audio."""
        ...
