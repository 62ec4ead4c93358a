"""Interfaces of the model: the encoder's output for a decoder, and a decoder's output for the postnet."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lipsound2.model.masks import length_mask


class Memory(NamedTuple):
    """The encoded video, one vector per video frame.

    Attributes:
        values: Memory vectors; 0 past a clip's length.
        lengths: Video frames of each clip; best on the CPU.
    """

    values: Float[Tensor, "batch time memory_dim"]
    lengths: Int[Tensor, " batch"]

    def mask(self) -> Bool[Tensor, "batch time"]:
        """Return a mask that is False at padding."""
        return length_mask(self.lengths, self.values.shape[1], self.values.device)


class Decoded(NamedTuple):
    """A decoder's output.

    Attributes:
        mel: Mel of zero mean and unit variance per bin.
        alignment: Attention of each decoder step over the video frames; None for a decoder without attention.
    """

    mel: Float[Tensor, "batch mels frames"]
    alignment: Float[Tensor, "batch steps time"] | None


@runtime_checkable
class Decoder(Protocol):
    """Memory -> mel; a torch module.

    Attributes:
        frames_per_step: Mel frames per decoder step.
    """

    frames_per_step: int

    def __call__(
        self,
        memory: Memory,
        frames: int,
        target: Float[Tensor, "batch mels frames"] | None = None,
        own: Bool[Tensor, "batch most_steps"] | None = None,
    ) -> Decoded:
        """Decode into exactly `frames` mel frames.

        Args:
            memory: The encoded clips.
            frames: Mel frames of the longest clip.
            target: Reference mel for teacher forcing, normalised; a decoder that feeds nothing back ignores it.
            own: Steps that are fed the decoder's own last frame despite `target` (scheduled sampling, Bengio et
                al. 2015).
        """
        ...
