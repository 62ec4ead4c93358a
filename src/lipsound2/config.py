"""Settings of models and data as frozen dataclasses; presets are functions; a config is saved in each checkpoint."""

import json
import math
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any, Literal, TypeVar

import cattrs

from lipsound2.errors import ConfigError

T = TypeVar("T")
Number = int | float
CONFIG_NAME = "config.json"
MOST_LAYERS = 1000
"""Most layers of a kind in a network; a configuration with more is damaged or malicious."""
MOST_UNITS = 1_000_000
"""Most units of a layer."""
MOST_SAMPLES = 2**16
"""Most samples of an audio window."""


def in_range(owner: object, least: Number, most: Number, *names: str, above: bool = False) -> None:
    """Check that settings are finite numbers within a range.

    Args:
        owner: The config.
        least: Smallest value.
        most: Largest value.
        names: Attributes of the config.
        above: Whether `least` itself is excluded.

    Raises:
        ConfigError: A setting is out of range.
    """
    for name in names:
        value = getattr(owner, name)
        if not math.isfinite(value) or not least <= value <= most or (above and value == least):
            start = f"above {least:g}" if above else f"at least {least:g}"
            end = f" and at most {most:g}" if math.isfinite(most) else ""
            raise ConfigError(f"{name} must be {start}{end}, got {value}")


@dataclass(frozen=True)
class AudioConfig:
    """Settings of the log-mel spectrogram that all parts of the system share.

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
        in_range(self, 1, 1_000_000, "sample_rate")
        in_range(self, 1, MOST_SAMPLES, "n_fft", "n_mels", "hop_length")
        in_range(self, 0, inf, "floor", above=True)
        if not 0 < self.win_length <= self.n_fft:
            raise ConfigError(f"win_length must be in 1..n_fft ({self.n_fft}), got {self.win_length}")
        if self.hop_length < 2 or self.hop_length % 2:
            raise ConfigError(f"hop_length must be even and at least 2, got {self.hop_length}")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ConfigError(
                f"f_min < f_max <= {self.sample_rate / 2:g} Hz expected, got {self.f_min:g} and {self.f_max:g}"
            )

    def frames_per_video_frame(self, fps: int) -> Fraction:
        """Return the mel frames per video frame, as an exact fraction."""
        return Fraction(self.sample_rate, fps * self.hop_length)

    def mel_frames(self, video_frames: int, fps: int) -> int:
        """Return the number of whole mel frames in `video_frames` frames at `fps`."""
        return int(video_frames * self.frames_per_video_frame(fps))

    def __str__(self) -> str:
        return (
            f"{self.sample_rate} Hz, n_fft {self.n_fft}, window {self.win_length}, hop {self.hop_length}, "
            f"{self.n_mels} mel bins {self.f_min:g}-{self.f_max:g} Hz, floor {self.floor:g}"
        )


def audio_16k() -> AudioConfig:
    """Return the project's own settings: 16 kHz, 4 mel frames per video frame at 25 fps."""
    return AudioConfig()


def audio_22k() -> AudioConfig:
    """Return the settings of NVIDIA's published WaveGlow weights."""
    return AudioConfig(sample_rate=22_050, win_length=1024, hop_length=256)


@dataclass(frozen=True)
class VideoConfig:
    """Settings of the encoder's input: a square window of the aligned face, resized, grey or colour.

    `window` is (left, top, side) in pixels of the aligned face canvas (see `faces.CANVAS`).
    """

    fps: int = 25
    size: int = 112
    channels: int = 3
    window: tuple[int, int, int] = (8, 8, 144)

    def __post_init__(self) -> None:
        in_range(self, 1, 1000, "fps")
        in_range(self, 1, 4096, "size")
        if self.window[2] < 1:
            raise ConfigError(f"the window's side must be at least 1 pixel, got {self.window[2]}")
        if self.channels not in (1, 3):
            raise ConfigError(f"channels must be 1 (grey) or 3 (colour), got {self.channels}")


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the 3D-CNN blocks and the bidirectional LSTM above them.

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
        in_range(self, 1, MOST_LAYERS, "lstm_layers")
        in_range(self, 1, MOST_UNITS, "lstm_dim")
        in_range(self, 0, 1, "dropout", "lstm_dropout")
        if not 1 <= len(self.channels) <= MOST_LAYERS:
            raise ConfigError(f"1 to {MOST_LAYERS} blocks of the encoder were expected, got {len(self.channels)}")
        lengths = {len(self.channels), len(self.kernels), len(self.strides), len(self.pools)}
        if len(lengths) != 1:
            raise ConfigError("the encoder's channels, kernels, strides and pools must be equally many")
        sizes = [*self.channels, *self.strides, *self.pools, *(width for kernel in self.kernels for width in kernel)]
        if not all(1 <= size <= MOST_UNITS for size in sizes):
            raise ConfigError(f"the encoder's sizes must be in 1..{MOST_UNITS}, got {min(sizes)} to {max(sizes)}")
        if any(width % 2 == 0 for kernel in self.kernels for width in kernel):
            raise ConfigError(f"the encoder's kernels must be odd, got {self.kernels}")


class DecoderConfig:
    """Base of decoder configs: a frozen dataclass whose field `kind` is its name in `DECODERS`."""

    kind: str


@dataclass(frozen=True)
class AttentionDecoderConfig(DecoderConfig):
    """Sizes of the paper's decoder: location-aware attention and one LSTM.

    `frames_per_step` is the r of the literature (1 in the paper); a `prenet_dim` of 0 feeds the
    previous frame unchanged.
    """

    attention_dim: int = 128
    location_filters: int = 32
    location_width: int = 31
    prenet_dim: int = 256
    prenet_dropout: float = 0.5
    lstm_dim: int = 1024
    dropout: float = 0.1
    frames_per_step: int = 1
    kind: Literal["attention"] = "attention"

    def __post_init__(self) -> None:
        sizes = ("attention_dim", "location_filters", "location_width", "lstm_dim", "frames_per_step")
        in_range(self, 1, MOST_UNITS, *sizes)
        in_range(self, 0, MOST_UNITS, "prenet_dim")
        in_range(self, 0, 1, "prenet_dropout", "dropout")
        if self.location_width % 2 == 0:
            raise ConfigError(f"location_width must be odd, got {self.location_width}")


@dataclass(frozen=True)
class FrameDecoderConfig(DecoderConfig):
    """Sizes of a frame-synchronous decoder: `layers` convolutions of `width` video frames over the memory."""

    layers: int = 4
    dim: int = 256
    width: int = 15
    dropout: float = 0.1
    kind: Literal["frame"] = "frame"

    def __post_init__(self) -> None:
        in_range(self, 1, MOST_LAYERS, "layers")
        in_range(self, 1, MOST_UNITS, "dim", "width")
        in_range(self, 0, 1, "dropout")
        if self.width % 2 == 0:
            raise ConfigError(f"the decoder's width must be odd, got {self.width}")


DECODERS: dict[str, type[DecoderConfig]] = {"attention": AttentionDecoderConfig, "frame": FrameDecoderConfig}
"""Configs of decoders by `kind`; `attention` in older files without one. See docs/extending.md."""


@dataclass(frozen=True)
class PostnetConfig:
    """Sizes of the convolutions after the decoder."""

    layers: int = 5
    channels: int = 512
    width: int = 5
    dropout: float = 0.5

    def __post_init__(self) -> None:
        in_range(self, 1, MOST_LAYERS, "layers")
        in_range(self, 1, MOST_UNITS, "channels", "width")
        in_range(self, 0, 1, "dropout")
        if self.width % 2 == 0:
            raise ConfigError(f"the postnet's width must be odd, got {self.width}")


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training clips; 0 switches one off.

    Attributes:
        flip: Share of clips that are mirrored.
        shift: Largest shift of the window, in pixels of the face canvas.
        rotate: Largest rotation in degrees.
        scale: Largest relative change of size.
        contrast: Largest relative change of contrast.
        brightness: Largest change of brightness, of 255.
        erase: Share of clips with a rectangle erased.
        speed: Largest relative change of speed, of video and audio together.
        splice: Share of clips that are spliced with another clip of the same speaker, half of them in the
            middle and half from end to start, against overfitting to sentences and for windows that
            begin anywhere.
        hide: Share of seconds of which up to 0.4 s are replaced by the clip's mean frame (time masking;
            Ma, Petridis & Pantic 2022).
    """

    flip: float = 0.5
    shift: float = 6.0
    rotate: float = 5.0
    scale: float = 0.08
    contrast: float = 0.3
    brightness: float = 20.0
    erase: float = 0.5
    speed: float = 0.1
    splice: float = 0.0
    hide: float = 0.0

    def __post_init__(self) -> None:
        in_range(self, 0, 1, "flip", "scale", "contrast", "erase", "speed", "splice", "hide")
        in_range(self, 0, inf, "shift", "rotate", "brightness")


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a LipSound2 model.

    `window` and `overlap`, in video frames, divide longer videos at inference. `condition_dim` is the size of a
    vector per clip, such as a speaker embedding, that is added to the memory; 0 for none.
    """

    audio: AudioConfig = field(default_factory=AudioConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=AttentionDecoderConfig)
    postnet: PostnetConfig = field(default_factory=PostnetConfig)
    window: int = 250
    overlap: int = 50
    condition_dim: int = 0

    def __post_init__(self) -> None:
        in_range(self, 1, inf, "window")
        in_range(self, 0, MOST_UNITS, "condition_dim")
        if not 0 <= self.overlap < self.window:
            raise ConfigError(f"an overlap of 0..{self.window - 1} frames was expected, got {self.overlap}")

    def whole_rate(self) -> int:
        """Give the mel frames that one video frame lasts, for a decoder that needs a whole number of them.

        Raises:
            ConfigError: It is none.
        """
        rate = self.audio.frames_per_video_frame(self.video.fps)
        if rate.denominator != 1:
            raise ConfigError(
                f"a decoder of kind {self.decoder.kind!r} needs whole mel frames a video frame, "
                f"these are {float(rate):.3f}",
                "choose hop_length and sample_rate that fit, or the kind 'attention'",
            )
        return rate.numerator


def paper() -> ModelConfig:
    """Return the paper's model at full size, with values of Tacotron 2 where the paper has none."""
    return ModelConfig()


def small() -> ModelConfig:
    """Return a model that two CPU cores can train: grey mouth crops, four mel frames per step."""
    return ModelConfig(
        video=VideoConfig(size=64, channels=1, window=(40, 72, 80)),
        encoder=EncoderConfig(
            channels=(16, 32, 64, 128),
            kernels=((5, 5), (3, 3), (3, 3), (3, 3)),
            strides=(2, 1, 1, 1),
            pools=(2, 2, 2, 2),
            lstm_dropout=0.2,
        ),
        decoder=AttentionDecoderConfig(prenet_dim=128, lstm_dim=512, frames_per_step=4),
        postnet=PostnetConfig(channels=256, dropout=0.3),
        window=75,
        overlap=25,
    )


def to_json(config: Any) -> str:
    """Write a config dataclass as indented JSON."""
    return json.dumps(asdict(config), indent=2) + "\n"


_UNFIT = (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError)
"""Exceptions from converting a value to another type."""


def from_dict(data: Any, kind: type[T], where: str = "config") -> T:
    """Build the config dataclass `kind` from plain data; an unknown or missing key is a `ConfigError`."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    converter.register_structure_hook_func(
        lambda wanted: wanted is DecoderConfig, lambda value, _: converter.structure(value, _decoder_kind(value))
    )
    try:
        return converter.structure(data, kind)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.hint) from error
    except (cattrs.BaseValidationError, cattrs.ForbiddenExtraKeysError, *_UNFIT) as error:
        raise ConfigError(f"{where} is not a valid {kind.__name__}: {error}") from error


def _decoder_kind(data: Any) -> type[DecoderConfig]:
    kind = data.get("kind", "attention") if isinstance(data, dict) else data
    if kind not in DECODERS:
        raise ConfigError(f"unknown kind of decoder {kind!r}", f"one of {', '.join(DECODERS)}")
    return DECODERS[kind]


def read_config(path: Path, kind: type[T]) -> T:
    """Read a config dataclass from a JSON file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return from_dict(data, kind, str(path))
