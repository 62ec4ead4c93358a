"""Log-mel features -> posteriors over an alphabet: Jasper (Li et al. 2019) and QuartzNet (Kriman et al. 2020).

    features ─► conv1, stride 2 ─► B blocks ─► conv2, dilated ─► conv3 ─► 1x1 ─► log posteriors

    a block:  x ─► [conv, norm, ReLU, dropout] x (R-1) ─► conv, norm ─► (+) ─► ReLU, dropout
              inputs of this and earlier blocks ─► each its 1x1 conv, norm ─┘

Residuals are none, the block's input (QuartzNet) or the inputs of all blocks so far (dense residual).
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from lipsound2.model.masks import length_mask
from lipsound2.recognizer.config import BlockConfig, JasperConfig
from lipsound2.recognizer.features import features


class Posteriors(NamedTuple):
    """Natural-log posteriors of the symbols, the blank last, every `samples_per_frame` samples."""

    values: Float[Tensor, "batch frames symbols"]
    lengths: Int[Tensor, " batch"]


class MaskedConv(nn.Module):
    """A convolution without bias that masks padding with zeros and returns lengths."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
        self.stride = stride
        nn.init.xavier_uniform_(self.conv.weight)

    def forward(
        self, x: Float[Tensor, "batch inputs frames"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch outputs newframes"], Int[Tensor, " batch"]]:
        """Convolve; with a stride of s, n frames become ceil(n / s)."""
        mask = length_mask(lengths, x.shape[-1])[:, None].to(x.dtype)
        return self.conv(x * mask), -(-lengths // self.stride)


class ConvNorm(nn.Module):
    """A convolution, full or separable, and BatchNorm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, separable: bool = False
    ) -> None:
        super().__init__()
        if separable:
            depthwise = MaskedConv(inputs, inputs, kernel, stride, dilation, groups=inputs)
            self.convs = nn.ModuleList([depthwise, MaskedConv(inputs, outputs, 1)])
        else:
            self.convs = nn.ModuleList([MaskedConv(inputs, outputs, kernel, stride, dilation)])
        self.norm = nn.BatchNorm1d(outputs, eps=1e-3, momentum=0.1)

    def forward(
        self, x: Float[Tensor, "batch inputs frames"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch outputs newframes"], Int[Tensor, " batch"]]:
        """Return the input of the activation, and its lengths."""
        for conv in self.convs:
            x, lengths = conv(x, lengths)
        return self.norm(x), lengths


class Block(nn.Module):
    """A chain of sub-blocks, with residuals before the last activation.

    Args:
        inputs: Channels of the block's input.
        residuals: Channels of each residual.
        config: Size of the block.
    """

    def __init__(self, inputs: int, residuals: list[int], config: BlockConfig) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            ConvNorm(
                inputs if i == 0 else config.filters,
                config.filters,
                config.kernel,
                config.stride,
                config.dilation,
                config.separable,
            )
            for i in range(config.repeat)
        )
        self.residuals = nn.ModuleList(ConvNorm(channels, config.filters, 1) for channels in residuals)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch inputs frames"],
        added: list[Float[Tensor, "batch _ frames"]],
        lengths: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch filters newframes"], Int[Tensor, " batch"]]:
        """Return the block's output and its lengths; `added` are the inputs of the residual connections."""
        residual = [layer(tensor, lengths)[0] for layer, tensor in zip(self.residuals, added, strict=True)]
        for i, step in enumerate(self.steps):
            x, lengths = step(x, lengths)
            if i == len(self.steps) - 1:
                x = torch.stack([x, *residual]).sum(dim=0) if residual else x
            x = self.dropout(torch.relu(x))
        return x, lengths


class Jasper(nn.Module):
    """Acoustic model for CTC: features -> log-posteriors of characters."""

    def __init__(self, config: JasperConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.features.n_mels
        dense: list[int] = []
        self.blocks = nn.ModuleList()
        for block in config.blocks:
            if block.residual == "dense":
                dense.append(channels)
            residuals = {"none": [], "block": [channels], "dense": dense}[block.residual]
            self.blocks.append(Block(channels, residuals, block))
            channels = block.filters
        self.output = nn.Conv1d(channels, len(config.alphabet) + 1, 1)
        nn.init.xavier_uniform_(self.output.weight)

    @torch.inference_mode()
    def listen(self, wave: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "frames symbols"]:
        """Return the log-posteriors of one wave, features included."""
        device = self.output.weight.device
        samples, lengths = torch.from_numpy(wave).to(device)[None], torch.tensor([len(wave)], device=device)
        return self(*features(samples, lengths, self.config.features)).values[0].float().cpu().numpy()

    def forward(self, features: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"]) -> Posteriors:
        """Return log-posteriors; frames past a length are ignored in the input and undefined in the output."""
        x = features
        dense: list[Tensor] = []
        for block, config in zip(self.blocks, self.config.blocks, strict=True):
            if config.residual == "dense":
                dense.append(x)
            x, lengths = block(x, {"none": [], "block": [x], "dense": dense}[config.residual], lengths)
        return Posteriors(self.output(x).transpose(1, 2).float().log_softmax(dim=-1), lengths)
