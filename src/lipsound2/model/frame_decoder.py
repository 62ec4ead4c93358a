"""Memory -> mel frames in parallel: convolutions over time, some mel frames per video frame, no recurrence."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lipsound2.config import FrameDecoderConfig
from lipsound2.model.memory import Decoded, Memory


class ConvolutionLayer(nn.Module):
    """Convolution over time, then a feed-forward layer, both residual (Gulati et al. 2020).

    Args:
        dim: Channels.
        width: Kernel size in frames, odd.
        dropout: Of the residuals.
    """

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim)
        self.conv = nn.Conv1d(dim, dim, width, padding=width // 2, groups=dim)
        self.out = nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.SiLU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, features: Float[Tensor, "batch time dim"], mask: Float[Tensor, "batch time 1"]
    ) -> Float[Tensor, "batch time dim"]:
        """Compute the layer; frames where `mask` is 0 count as zeros."""
        mixed = nn.functional.glu(self.gate(self.norm(features)), dim=-1) * mask
        mixed = self.conv(mixed.transpose(1, 2)).transpose(1, 2)
        features = features + self.dropout(self.out(nn.functional.silu(mixed)))
        return features + self.dropout(self.feed_forward(features))


class FrameDecoder(nn.Module):
    """Predict the mel frames of each video frame from the memory around it.

    Args:
        config: Sizes.
        mels: Mel bins.
        memory_dim: Size of a memory vector.
        frames_per_step: Mel frames per video frame.
    """

    def __init__(self, config: FrameDecoderConfig, mels: int, memory_dim: int, frames_per_step: int) -> None:
        super().__init__()
        self.mels = mels
        self.frames_per_step = frames_per_step
        self.inputs = nn.Linear(memory_dim, config.dim)
        self.layers = nn.ModuleList(
            ConvolutionLayer(config.dim, config.width, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.linear = nn.Linear(config.dim, mels * frames_per_step)

    def forward(
        self,
        memory: Memory,
        frames: int,
        target: Float[Tensor, "batch mels target_frames"] | None = None,
        own: Bool[Tensor, "batch most_steps"] | None = None,
    ) -> Decoded:
        """Decode; see `Decoder`. Nothing is fed back, so `target` and `own` are ignored."""
        mask = memory.mask()[:, :, None].to(memory.values.dtype)
        features = self.inputs(memory.values)
        for layer in self.layers:
            features = layer(features, mask)
        mel = self.linear(self.norm(features)).unflatten(-1, (self.mels, self.frames_per_step))
        return Decoded(torch.movedim(mel, 1, 2).flatten(2)[..., :frames], None)
