"""Every setting as a frozen dataclass; presets are functions; a config travels in each checkpoint."""

import json
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import cattrs

from lipsound2.errors import ConfigError

T = TypeVar("T")
CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class AudioConfig:
    """Describe the log-mel spectrogram that every part of the system exchanges.

    The mel scale is Slaney's, the logarithm natural, taken of the magnitude clamped at `floor`.
    Rates are in Hz, lengths in samples.
    """

    sample_rate: int = 16_000
    n_fft: int = 1024
    win_length: int = 640
    hop_length: int = 160
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0
    floor: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.win_length <= self.n_fft:
            raise ConfigError(f"win_length must be in 1..n_fft ({self.n_fft}), got {self.win_length}")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ConfigError(
                f"f_min < f_max <= {self.sample_rate / 2:g} Hz expected, got {self.f_min:g} and {self.f_max:g}"
            )

    def frames_per_video_frame(self, fps: int) -> Fraction:
        """Give the mel frames that one video frame lasts, as an exact fraction."""
        return Fraction(self.sample_rate, fps * self.hop_length)

    def mel_frames(self, video_frames: int, fps: int) -> int:
        """Give the whole mel frames that fit into `video_frames` frames at `fps`."""
        return int(video_frames * self.frames_per_video_frame(fps))

    def __str__(self) -> str:
        return (
            f"{self.sample_rate} Hz, n_fft {self.n_fft}, window {self.win_length}, hop {self.hop_length}, "
            f"{self.n_mels} mel bins {self.f_min:g}-{self.f_max:g} Hz, floor {self.floor:g}"
        )


def audio_16k() -> AudioConfig:
    """Give the project's own settings: 16 kHz, 4 mel frames a video frame at 25 fps."""
    return AudioConfig()


def audio_22k() -> AudioConfig:
    """Give the settings of NVIDIA's published WaveGlow weights."""
    return AudioConfig(sample_rate=22_050, win_length=1024, hop_length=256)


@dataclass(frozen=True)
class VideoConfig:
    """Describe what the encoder looks at: a square window of the aligned face, resized and cut to `channels`.

    `window` is (left, top, side) in pixels of the aligned face canvas (see `faces.CANVAS`).
    """

    fps: int = 25
    size: int = 112
    channels: int = 3
    window: tuple[int, int, int] = (8, 8, 144)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ConfigError(f"channels must be 1 (grey) or 3 (colour), got {self.channels}")


@dataclass(frozen=True)
class EncoderConfig:
    """Size the 3D-CNN blocks and the bidirectional LSTM above them.

    Each block is Conv3D, BatchNorm, ReLU, MaxPool, Dropout; kernels and pools are (time, space).
    `strides` are spatial strides of the convolutions, `pools` the spatial pooling factors.
    """

    channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    kernels: tuple[tuple[int, int], ...] = ((5, 5), (3, 3), (3, 3), (3, 3), (3, 3))
    strides: tuple[int, ...] = (2, 1, 1, 1, 1)
    pools: tuple[int, ...] = (2, 2, 2, 2, 2)
    dropout: float = 0.1
    lstm_dim: int = 256
    lstm_layers: int = 2
    lstm_dropout: float = 0.1

    def __post_init__(self) -> None:
        lengths = {len(self.channels), len(self.kernels), len(self.strides), len(self.pools)}
        if len(lengths) != 1:
            raise ConfigError("the encoder's channels, kernels, strides and pools must be equally many")


@dataclass(frozen=True)
class DecoderConfig:
    """Size the attention and the decoder.

    `frames_per_step` is the r of the literature (1 in the paper); a `prenet_dim` of 0 feeds the
    previous frame as it is.
    """

    attention_dim: int = 128
    location_filters: int = 32
    location_width: int = 31
    prenet_dim: int = 256
    prenet_dropout: float = 0.5
    lstm_dim: int = 1024
    dropout: float = 0.1
    frames_per_step: int = 1


@dataclass(frozen=True)
class PostnetConfig:
    """Size the five convolutions after the decoder."""

    layers: int = 5
    channels: int = 512
    width: int = 5
    dropout: float = 0.5


@dataclass(frozen=True)
class ModelConfig:
    """Describe a whole LipSound2 model: video window in, log-mel out."""

    audio: AudioConfig = field(default_factory=AudioConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    postnet: PostnetConfig = field(default_factory=PostnetConfig)


def paper() -> ModelConfig:
    """Give the paper's model at full size; where the paper is silent, the values of Tacotron 2."""
    return ModelConfig()


def to_json(config: Any) -> str:
    """Write a config dataclass as indented JSON."""
    return json.dumps(asdict(config), indent=2) + "\n"


def from_dict(data: Any, kind: type[T], where: str = "config") -> T:
    """Build the config dataclass `kind` from plain data; an unknown or missing key is a `ConfigError`."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    try:
        return converter.structure(data, kind)
    except (cattrs.BaseValidationError, cattrs.ForbiddenExtraKeysError, TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{where} is not a valid {kind.__name__}: {error}") from error


def read_config(path: Path, kind: type[T]) -> T:
    """Read a config dataclass from a JSON file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return from_dict(data, kind, str(path))
