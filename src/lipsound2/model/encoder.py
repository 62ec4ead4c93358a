"""Silent video -> memory: 3D-CNN blocks and bidirectional LSTM layers (Qu et al. 2024, section III)."""

import torch
import torch.utils.checkpoint
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lipsound2.config import EncoderConfig
from lipsound2.model.masks import inside, length_mask
from lipsound2.model.norm import BatchNorm


class ConvBlock(nn.Module):
    """Conv3D, BatchNorm, ReLU, spatial max pooling, channel dropout.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Kernel size in time and in space; both odd.
        stride: Spatial stride of the convolution.
        pool: Factor of the spatial max pooling.
        dropout: Channel dropout rate.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int, pool: int, dropout: float
    ) -> None:
        super().__init__()
        time, space = kernel
        self.conv = nn.Conv3d(
            inputs,
            outputs,
            (time, space, space),
            stride=(1, stride, stride),
            padding=(time // 2, space // 2, space // 2),
            bias=False,
        )
        self.norm = BatchNorm(outputs)
        self.pool = nn.MaxPool3d((1, pool, pool)) if pool > 1 else nn.Identity()
        self.dropout = nn.Dropout3d(dropout)

    def forward(
        self,
        video: Float[Tensor, "batch inputs time height width"],
        mask: Float[Tensor, "batch 1 time 1 1"],
        frames: Int[Tensor, " frames"] | None = None,
    ) -> Float[Tensor, "batch outputs time height2 width2"]:
        """Compute the block; output frames are 0 where `mask` is 0.

        Args:
            video: Features of each frame.
            mask: 1 for frames of a clip, 0 for padding.
            frames: Indices of the same frames in the flattened batch, None without padding. In training only they
                count in the statistics of the normalisation.
        """
        features = self.conv(video)
        if frames is None or not self.training:
            return self.dropout(self._pooled(features)) * mask
        batch, _, time, _, _ = features.shape
        pooled = self._pooled(features.transpose(1, 2).flatten(0, 1)[frames, :, None])[:, :, 0]
        whole = pooled.new_zeros(batch * time, *pooled.shape[1:]).index_copy(0, frames, pooled)
        return self.dropout(whole.unflatten(0, (batch, time)).transpose(1, 2))

    def _pooled(self, features: Float[Tensor, "n outputs t height width"]) -> Tensor:
        # Pooling commutes with ReLU, which is cheaper afterwards.
        return torch.relu(self.pool(self.norm(features)))


class Encoder(nn.Module):
    """Encode video as one memory vector per video frame.

    Args:
        config: Sizes.
        inputs: Channels of the video, 1 (grey) or 3 (colour).
        size: Height and width of the video in pixels.

    Attributes:
        recompute: Activation checkpointing: recompute the blocks in the backward pass.
        reach: Receptive field of the convolutions to either side of a frame.
    """

    def __init__(self, config: EncoderConfig, inputs: int, size: int) -> None:
        super().__init__()
        channels, strides, pools = config.channels, config.strides, config.pools
        widths = [inputs, *channels]
        self.blocks = nn.ModuleList(
            ConvBlock(widths[i], widths[i + 1], config.kernels[i], strides[i], pools[i], config.dropout)
            for i in range(len(channels))
        )
        for stride, pool in zip(strides, pools, strict=True):
            size = -(-size // stride) // pool
        if size < 1:
            raise ValueError("the encoder's strides and pools reduce the image to nothing")
        self.dim = 2 * config.lstm_dim
        self.recompute = False
        self.reach = sum(time // 2 for time, _ in config.kernels)
        self.dropout = nn.Dropout(config.lstm_dropout)
        self.lstms = nn.ModuleList(
            nn.LSTM(inputs, config.lstm_dim, batch_first=True, bidirectional=True)
            for inputs in [channels[-1] * size * size, *[self.dim] * (config.lstm_layers - 1)]
        )

    def forward(
        self, video: Float[Tensor, "batch channels time height width"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time dim"]:
        """Encode; memory vectors past a clip's length are 0."""
        return self.recall(self.features(video, lengths), lengths)

    def features(
        self, video: Float[Tensor, "batch channels time height width"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time features"]:
        """Compute what each frame and `reach` frames to either side of it show."""
        lengths = lengths.cpu()
        frames = inside(lengths, video.shape[2], video.device)
        frames_mask = length_mask(lengths, video.shape[2], video.device)[:, None, :, None, None].to(video.dtype)
        features = video * frames_mask
        for block in self.blocks:
            features = self._run(block, features, frames_mask, frames)
        return features.permute(0, 2, 1, 3, 4).flatten(2).float()

    def recall(
        self, features: Float[Tensor, "batch time features"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time dim"]:
        """Turn features into memory vectors, which know what comes before and after, in float32 at any precision."""
        lengths = lengths.cpu()
        padded = inside(lengths, features.shape[1], features.device) is not None
        with torch.autocast(features.device.type, enabled=False):
            return self._recurrent(features, lengths, packed=padded)

    def _run(self, block: nn.Module, *inputs: Tensor | None) -> Tensor:
        """Compute a block, with activation checkpointing if `recompute` is set."""
        if self.recompute and self.training:
            return torch.utils.checkpoint.checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def _recurrent(
        self, memory: Float[Tensor, "batch time features"], lengths: Int[Tensor, " batch"], packed: bool
    ) -> Float[Tensor, "batch time dim"]:
        time = memory.shape[1]
        for lstm in self.lstms:
            memory = self.dropout(memory)
            if packed:
                sequence = pack_padded_sequence(memory, lengths, batch_first=True, enforce_sorted=False)
                memory, _ = pad_packed_sequence(lstm(sequence)[0], batch_first=True, total_length=time)
            else:
                memory = lstm(memory)[0]
        return memory
