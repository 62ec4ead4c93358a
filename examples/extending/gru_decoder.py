"""A decoder of one's own: a bidirectional GRU over the memory, as many mel frames a step as a video frame lasts.

    python examples/extending/gru_decoder.py pretrain prepared/ --recipe examples/extending/gru.json -o runs/gru
    python examples/extending/gru_decoder.py speak clip.mp4 --pack runs/gru

This file is the command `lipsound2` with one decoder more. docs/extending.md walks through it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lipsound2 import config
from lipsound2.cli import main
from lipsound2.config import DecoderConfig, ModelConfig, in_range
from lipsound2.model import lipsound
from lipsound2.model.memory import Decoded, Memory


@dataclass(frozen=True)
class GruDecoderConfig(DecoderConfig):
    """Size the decoder."""

    dim: int = 128
    layers: int = 2
    kind: Literal["gru"] = "gru"

    def __post_init__(self) -> None:
        in_range(self, 1, 4096, "dim")
        in_range(self, 1, 16, "layers")


class GruDecoder(nn.Module):
    """Predict the mel frames of each video frame from what comes before and after it.

    Args:
        sizes: Of the GRU.
        mels: Mel bins.
        memory_dim: Size of a memory vector.
        frames_per_step: Mel frames that one video frame lasts.
    """

    def __init__(self, sizes: GruDecoderConfig, mels: int, memory_dim: int, frames_per_step: int) -> None:
        super().__init__()
        self.mels = mels
        self.frames_per_step = frames_per_step
        self.gru = nn.GRU(memory_dim, sizes.dim, sizes.layers, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * sizes.dim, mels * frames_per_step)

    def forward(
        self,
        memory: Memory,
        frames: int,
        target: Float[Tensor, "batch mels target_frames"] | None = None,
        own: Bool[Tensor, "batch most_steps"] | None = None,
    ) -> Decoded:
        """Decode; `target` and `own` are for decoders that feed frames back, which this one does not."""
        packed = pack_padded_sequence(memory.values, memory.lengths.cpu(), batch_first=True, enforce_sorted=False)
        features, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=memory.values.shape[1])
        mel = self.linear(features).unflatten(-1, (self.mels, self.frames_per_step))
        return Decoded(torch.movedim(mel, 1, 2).flatten(2)[..., :frames], alignment=None)


def build(model: ModelConfig, memory_dim: int) -> GruDecoder:
    """Build the decoder of a model."""
    assert isinstance(model.decoder, GruDecoderConfig)
    return GruDecoder(model.decoder, model.audio.n_mels, memory_dim, model.whole_rate())


config.DECODERS["gru"] = GruDecoderConfig
lipsound.DECODERS["gru"] = build

if __name__ == "__main__":
    main()
