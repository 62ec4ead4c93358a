"""Mel frames -> a residual for them: non-causal convolutions (Shen et al. 2018)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lipsound2.config import PostnetConfig
from lipsound2.model.norm import BatchNorm, norm_inside


class Postnet(nn.Module):
    """Predict a residual over the decoder's frames.

    Args:
        config: Sizes; each convolution has batch normalisation, and tanh, except the last.
        mels: Mel bins in and out.
    """

    def __init__(self, config: PostnetConfig, mels: int) -> None:
        super().__init__()
        layers, width = config.layers, config.width
        widths = [mels, *[config.channels] * (layers - 1), mels]
        self.convs = nn.ModuleList(
            nn.Conv1d(widths[i], widths[i + 1], width, padding=width // 2, bias=False) for i in range(layers)
        )
        self.norms = nn.ModuleList(BatchNorm(channels) for channels in widths[1:])
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        mel: Float[Tensor, "batch mels frames"],
        mask: Float[Tensor, "batch 1 frames"],
        places: Int[Tensor, " places"] | None = None,
    ) -> Float[Tensor, "batch mels frames"]:
        """Compute the residual; frames where `mask` is 0 count as silence.

        Args:
            mel: The decoder's frames.
            mask: 1 for frames of a clip, 0 for padding.
            places: Indices of the same frames in the flattened batch, None without padding. In training only they
                count in the statistics of the normalisation.
        """
        features = mel
        last = len(self.convs) - 1
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            features = norm_inside(norm, conv(features * mask), places)
            features = self.dropout(torch.tanh(features) if i < last else features)
        return features * mask
