"""Silent video -> log-mel spectrogram: encoder, attention decoder and postnet put together."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from lipsound2.config import ModelConfig
from lipsound2.model.decoder import Decoder
from lipsound2.model.encoder import Encoder
from lipsound2.model.masks import length_mask
from lipsound2.model.postnet import Postnet


class Prediction(NamedTuple):
    """What the model makes of a batch of clips; mels are natural-log mels as in `AudioConfig`.

    Attributes:
        before: Mel as the decoder gives it.
        after: Mel after the postnet, the result.
        lengths: Frames of each clip; the rest is padding.
        alignment: Attention of each decoder step over the video frames.
    """

    before: Float[Tensor, "batch mels frames"]
    after: Float[Tensor, "batch mels frames"]
    lengths: Int[Tensor, " batch"]
    alignment: Float[Tensor, "batch steps time"]


class LipSound2(nn.Module):
    """Reconstruct the log-mel spectrogram of speech from silent video.

    The network works on mels of zero mean and unit variance a bin; `set_statistics` gives it the
    mean and the deviation of the training data, which are saved with the weights.
    """

    mel_mean: Float[Tensor, "mels 1"]
    mel_std: Float[Tensor, "mels 1"]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        video, encoder, decoder, postnet = config.video, config.encoder, config.decoder, config.postnet
        mels = config.audio.n_mels
        self.encoder = Encoder(
            video.channels,
            video.size,
            encoder.channels,
            encoder.kernels,
            encoder.strides,
            encoder.pools,
            encoder.dropout,
            encoder.lstm_dim,
            encoder.lstm_layers,
            encoder.lstm_dropout,
        )
        self.decoder = Decoder(
            mels,
            decoder.frames_per_step,
            self.encoder.dim,
            decoder.lstm_dim,
            decoder.attention_dim,
            decoder.location_filters,
            decoder.location_width,
            decoder.prenet_dim,
            decoder.prenet_dropout,
            decoder.dropout,
        )
        self.postnet = Postnet(mels, postnet.layers, postnet.channels, postnet.width, postnet.dropout)
        self.register_buffer("mel_mean", torch.zeros(mels, 1))
        self.register_buffer("mel_std", torch.ones(mels, 1))

    def set_statistics(self, mean: Float[Tensor, " mels"], std: Float[Tensor, " mels"]) -> None:
        """Set mean and standard deviation of each mel bin over the training data."""
        self.mel_mean.copy_(mean[:, None])
        self.mel_std.copy_(std[:, None])

    def normalize(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch mels frames"]:
        """Scale log-mel to zero mean and unit variance a bin."""
        return (mel - self.mel_mean) / self.mel_std

    def mel_lengths(self, video_lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Give the mel frames that belong to so many video frames."""
        rate = self.config.audio.frames_per_video_frame(self.config.video.fps)
        return video_lengths * rate.numerator // rate.denominator

    def forward(
        self,
        video: UInt8[Tensor, "batch channels time height width"],
        lengths: Int[Tensor, " batch"],
        target: Float[Tensor, "batch mels frames"] | None = None,
        own: Bool[Tensor, "batch most_steps"] | None = None,
    ) -> Prediction:
        """Predict the mel of each clip; `target` and `own` as in `Decoder.forward`, `target` in log-mel.

        Args:
            video: Pixels 0..255; frames past a clip's length are ignored.
            lengths: Video frames of each clip.
            target: True log-mel, for teacher forcing.
            own: Steps that are fed the decoder's own output nevertheless.
        """
        memory = self.decoder.prepare(
            self.encoder(standardize(video, lengths), lengths), length_mask(lengths, video.shape[2])
        )
        mel_lengths = self.mel_lengths(lengths)
        frames = int(mel_lengths.max())
        steps = -(-frames // self.config.decoder.frames_per_step)
        if target is not None:
            target = self.normalize(target)
            missing = steps * self.config.decoder.frames_per_step - target.shape[-1]
            target = nn.functional.pad(target, (0, max(missing, 0)))
        before, alignment = self.decoder(memory, steps, target, own)
        before = before[..., :frames]
        mask = length_mask(mel_lengths, frames)[:, None].to(before.dtype)
        after = before + self.postnet(before, mask)
        return Prediction(self._denormalize(before), self._denormalize(after), mel_lengths, alignment)

    def _denormalize(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch mels frames"]:
        return mel * self.mel_std + self.mel_mean


def standardize(
    video: UInt8[Tensor, "batch channels time height width"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channels time height width"]:
    """Scale each clip's pixels to zero mean and unit variance, so that light and camera matter less."""
    mask = length_mask(lengths, video.shape[2])[:, None, :, None, None].float()
    pixels = video.float() * mask
    count = lengths[:, None, None, None, None].float() * video[0, :, 0].numel()
    mean = pixels.sum(dim=(1, 2, 3, 4), keepdim=True) / count
    centred = (pixels - mean) * mask
    std = (centred.square().sum(dim=(1, 2, 3, 4), keepdim=True) / count).sqrt()
    return centred / std.clamp(min=1.0)
