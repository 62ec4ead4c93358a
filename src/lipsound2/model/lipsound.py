"""Silent video -> log-mel spectrogram: encoder, decoder and postnet."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lipsound2.config import AttentionDecoderConfig, FrameDecoderConfig, ModelConfig
from lipsound2.errors import ConfigError
from lipsound2.model.attention_decoder import AttentionDecoder
from lipsound2.model.encoder import Encoder
from lipsound2.model.frame_decoder import FrameDecoder
from lipsound2.model.masks import inside, length_mask
from lipsound2.model.memory import Decoded, Decoder, Memory
from lipsound2.model.postnet import Postnet
from lipsound2.model.preprocess import standardize


class Prediction(NamedTuple):
    """Prediction for a batch of clips; mels are natural-log mels as in `AudioConfig`.

    Attributes:
        before: Mel before the postnet.
        after: Mel after the postnet.
        lengths: Frames of each clip; the rest is padding.
        alignment: Attention of each decoder step over the video frames; None for a decoder without attention.
    """

    before: Float[Tensor, "batch mels frames"]
    after: Float[Tensor, "batch mels frames"]
    lengths: Int[Tensor, " batch"]
    alignment: Float[Tensor, "batch steps time"] | None


@runtime_checkable
class Removable(Protocol):
    """What ends a watching."""

    def remove(self) -> None:
        """End it."""
        ...


@runtime_checkable
class Lips(Protocol):
    """Interface of silent video -> mel at inference: `LipSound2`, or an exported model.

    Attributes:
        config: Its configuration.
        mel_mean: Mean of each mel bin over the training data.
    """

    config: ModelConfig
    mel_mean: Float[Tensor, "mels 1"]

    @property
    def device(self) -> torch.device:
        """Device of its inputs and outputs."""
        ...

    def __call__(
        self,
        video: UInt8[Tensor, "batch channels time height width"],
        lengths: Int[Tensor, " batch"],
        *,
        condition: Float[Tensor, "batch condition_dim"] | None = None,
    ) -> Prediction:
        """Predict the mel of clips."""
        ...

    def watch(self, block: int, look: Callable[..., None]) -> Removable:
        """Call `look` with what a block of the encoder makes of each clip, as a forward hook of torch."""
        ...


class LipSound2(nn.Module):
    """Reconstruct the log-mel spectrogram of speech from silent video.

    The network works on mels of zero mean and unit variance per bin; `set_statistics` sets the
    mean and standard deviation of the training data, which are saved with the weights.
    """

    mel_mean: Float[Tensor, "mels 1"]
    mel_std: Float[Tensor, "mels 1"]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        mels = config.audio.n_mels
        self.encoder = Encoder(config.encoder, config.video.channels, config.video.size)
        self.decoder = make_decoder(config, self.encoder.dim)
        self.postnet = Postnet(config.postnet, mels)
        if config.condition_dim:
            self.condition = nn.Linear(config.condition_dim, self.encoder.dim, bias=False)
        self.register_buffer("mel_mean", torch.zeros(mels, 1))
        self.register_buffer("mel_std", torch.ones(mels, 1))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.mel_mean.device

    def watch(self, block: int, look: Callable[..., None]) -> RemovableHandle:
        """Call `look` with each output of a block of the encoder, as a forward hook of torch, until it is removed."""
        return self.encoder.blocks[block].register_forward_hook(look)

    def set_statistics(self, mean: Float[Tensor, " mels"], std: Float[Tensor, " mels"]) -> None:
        """Set mean and standard deviation of each mel bin over the training data."""
        self.mel_mean.copy_(mean[:, None])
        self.mel_std.copy_(std[:, None])

    def normalize(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch mels frames"]:
        """Scale log-mel to zero mean and unit variance per bin."""
        return (mel - self.mel_mean) / self.mel_std

    def mel_lengths(self, video_lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Return the number of mel frames for a number of video frames."""
        rate = self.config.audio.frames_per_video_frame(self.config.video.fps)
        return video_lengths * rate.numerator // rate.denominator

    def encode(
        self,
        video: UInt8[Tensor, "batch channels time height width"],
        lengths: Int[Tensor, " batch"],
        condition: Float[Tensor, "batch condition_dim"] | None = None,
    ) -> Memory:
        """Encode video.

        Args:
            video: Pixels 0..255; frames past a clip's length are ignored.
            lengths: Video frames of each clip; on the CPU, to avoid synchronisation with a GPU.
            condition: A vector per clip, such as a speaker embedding, if the model takes one.

        Raises:
            ValueError: A condition is missing, or given to a model that takes none.
        """
        if (condition is not None) != bool(self.config.condition_dim):
            raise ValueError(f"a condition of size {self.config.condition_dim} was expected, 0 meaning none")
        values = self.encoder(standardize(video, lengths), lengths)
        if condition is not None:
            mask = length_mask(lengths, values.shape[1], values.device)[..., None].to(values.dtype)
            values = values + self.condition(condition)[:, None] * mask
        return Memory(values, lengths)

    def decode(
        self,
        memory: Memory,
        target: Float[Tensor, "batch mels frames"] | None = None,
        own: Bool[Tensor, "batch most_steps"] | None = None,
    ) -> Decoded:
        """Decode a memory into normalised mel; `target` is log-mel, both arguments as in `Decoder`."""
        frames = int(self.mel_lengths(memory.lengths).max())
        return self.decoder(memory, frames, None if target is None else self.normalize(target), own)

    def polish(
        self, mel: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch mels frames"]:
        """Add the postnet's residual to normalised mel; `lengths` are those of the mels."""
        frames = mel.shape[-1]
        places = inside(lengths, frames, mel.device) if self.training else None
        mask = length_mask(lengths, frames, mel.device)[:, None].to(mel.dtype)
        return mel + self.postnet(mel, mask, places).to(mel.dtype)

    def forward(
        self,
        video: UInt8[Tensor, "batch channels time height width"],
        lengths: Int[Tensor, " batch"],
        target: Float[Tensor, "batch mels frames"] | None = None,
        own: Bool[Tensor, "batch most_steps"] | None = None,
        condition: Float[Tensor, "batch condition_dim"] | None = None,
    ) -> Prediction:
        """Predict the mel of each clip; arguments as in `encode` and `decode`."""
        decoded = self.decode(self.encode(video, lengths, condition), target, own)
        mel_lengths = self.mel_lengths(lengths)
        after = self.polish(decoded.mel, mel_lengths)
        return Prediction(self.denormalize(decoded.mel), self.denormalize(after), mel_lengths, decoded.alignment)

    def denormalize(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch mels frames"]:
        """Scale normalised mel back to log-mel."""
        return mel * self.mel_std + self.mel_mean


def make_decoder(config: ModelConfig, memory_dim: int) -> Decoder:
    """Build the decoder that a configuration asks for.

    Raises:
        ConfigError: The kind is unknown, or does not fit the configuration.
    """
    if config.decoder.kind not in DECODERS:
        raise ConfigError(f"no decoder of kind {config.decoder.kind!r}", f"one of {', '.join(DECODERS)}")
    return DECODERS[config.decoder.kind](config, memory_dim)


def _attention(config: ModelConfig, memory_dim: int) -> Decoder:
    assert isinstance(config.decoder, AttentionDecoderConfig)
    return AttentionDecoder(config.decoder, config.audio.n_mels, memory_dim)


def _frame(config: ModelConfig, memory_dim: int) -> Decoder:
    assert isinstance(config.decoder, FrameDecoderConfig)
    return FrameDecoder(config.decoder, config.audio.n_mels, memory_dim, config.whole_rate())


DECODERS: dict[str, Callable[[ModelConfig, int], Decoder]] = {"attention": _attention, "frame": _frame}
"""Decoders by `decoder.kind`: the model's config and the size of a memory vector -> a module. See docs/extending.md."""
