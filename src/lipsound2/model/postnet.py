"""Mel frames -> what to add to them: convolutions that see the future (Shen et al. 2018)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lipsound2.config import PostnetConfig


class Postnet(nn.Module):
    """Predict a residual over the decoder's frames.

    Args:
        config: Sizes; each convolution has batch normalisation, all but the last end in tanh.
        mels: Mel bins in and out.
    """

    def __init__(self, config: PostnetConfig, mels: int) -> None:
        super().__init__()
        layers, width = config.layers, config.width
        widths = [mels, *[config.channels] * (layers - 1), mels]
        self.convs = nn.ModuleList(
            nn.Conv1d(widths[i], widths[i + 1], width, padding=width // 2, bias=False) for i in range(layers)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels) for channels in widths[1:])
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, mel: Float[Tensor, "batch mels frames"], mask: Float[Tensor, "batch 1 frames"]
    ) -> Float[Tensor, "batch mels frames"]:
        """Compute the residual; frames where `mask` is 0 count as silence beyond the end."""
        features = mel
        last = len(self.convs) - 1
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            features = norm(conv(features * mask))
            features = self.dropout(torch.tanh(features) if i < last else features)
        return features * mask
