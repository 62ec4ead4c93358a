"""Settings of a Jasper as frozen dataclasses; presets are functions."""

from dataclasses import dataclass, field, replace
from math import inf

from lipsound2.config import MOST_LAYERS, MOST_UNITS, AudioConfig, in_range
from lipsound2.errors import ConfigError
from lipsound2.text.alphabet import ENGLISH, Alphabet

RESIDUALS = ("none", "block", "dense")


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel features of Jasper, which are NeMo's and not those of `AudioConfig`.

    The window is a symmetric Hann window, the mel scale Slaney's, the logarithm natural, taken of the
    power plus `guard`; each mel bin has zero mean and unit variance over the utterance.
    """

    sample_rate: int = 16_000
    n_fft: int = 512
    win_length: int = 320
    hop_length: int = 160
    n_mels: int = 64
    f_min: float = 0.0
    f_max: float = 8000.0
    preemphasis: float = 0.97
    dither: float = 1e-5
    guard: float = 2.0**-24

    def __post_init__(self) -> None:
        self.filters()
        in_range(self, 0, 1, "preemphasis")
        in_range(self, 0, inf, "dither")
        in_range(self, 0, inf, "guard", above=True)

    def filters(self) -> AudioConfig:
        """Return the settings of the mel filters."""
        return AudioConfig(
            self.sample_rate, self.n_fft, self.win_length, self.hop_length, self.n_mels, self.f_min, self.f_max
        )


@dataclass(frozen=True)
class BlockConfig:
    """Configuration of a block: `repeat` times convolution, BatchNorm, ReLU and dropout.

    Attributes:
        filters: Output channels.
        kernel: Kernel size of its convolutions, odd.
        repeat: Number of sub-blocks.
        stride: Stride of its first convolution; only for a block of one convolution.
        dilation: Dilation of its convolutions.
        dropout: Dropout rate after each sub-block.
        residual: Residual connection before the last ReLU: `none`; `block`, the block's input; `dense`, the
            inputs of this and of all earlier dense blocks. Each goes through a 1x1 convolution and BatchNorm.
        separable: Whether convolutions are depthwise separable (QuartzNet).
    """

    filters: int
    kernel: int
    repeat: int = 1
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0
    residual: str = "none"
    separable: bool = False

    def __post_init__(self) -> None:
        in_range(self, 1, MOST_LAYERS, "repeat", "stride", "dilation")
        in_range(self, 1, MOST_UNITS, "filters", "kernel")
        in_range(self, 0, 1, "dropout")
        if self.kernel % 2 == 0:
            raise ConfigError(f"a block's kernel must be odd, got {self.kernel}")
        if self.residual not in RESIDUALS:
            raise ConfigError(f"a block's residual must be one of {', '.join(RESIDUALS)}, got {self.residual!r}")
        if self.stride > 1 and (self.repeat > 1 or self.dilation > 1 or self.residual != "none"):
            raise ConfigError("a block with a stride has one convolution, no dilation and no residual")


@dataclass(frozen=True)
class GateConfig:
    """Thresholds for rejecting silence and noise, saved with the model they were chosen for.

    Attributes:
        min_level: Level of the loudest tenth of a second, in dB of full scale, below which a wave is silence.
        min_confidence: Mean confidence of a stretch of words below which it is noise.
        max_gap: Longest pause in seconds within a stretch.
        doubtful: Mean confidence of the words of a stretch of video below which they may be invented, of which users
            are warned.
    """

    min_level: float = -60.0
    min_confidence: float = 0.5
    max_gap: float = 1.0
    doubtful: float = 0.85


@dataclass(frozen=True)
class TimingConfig:
    """Extension of a word beyond its first and last letter, where CTC only has short peaks.

    Both are in seconds, measured on aligned training clips, and never make words overlap.
    """

    before: float = 0.0
    after: float = 0.0


@dataclass(frozen=True)
class JasperConfig:
    """Configuration of a recogniser: a wave -> posteriors over an alphabet.

    Attributes:
        blocks: Of the network.
        features: What it is given.
        alphabet: The characters it writes.
        gate: What is rejected.
        timing: How long words are.
        language: Code of two letters of the language it writes; by default English if the alphabet is English.
    """

    blocks: tuple[BlockConfig, ...]
    features: FeatureConfig = field(default_factory=FeatureConfig)
    alphabet: str = ENGLISH
    gate: GateConfig = field(default_factory=GateConfig)
    timing: TimingConfig = field(default_factory=TimingConfig)
    language: str = ""

    def __post_init__(self) -> None:
        Alphabet(self.alphabet)
        if self.language and not (self.language.isalpha() and self.language.islower()):
            raise ConfigError(f"a language's code such as en was expected, got {self.language!r}")
        if not 1 <= sum(block.repeat for block in self.blocks) <= MOST_LAYERS:
            raise ConfigError(f"1 to {MOST_LAYERS} sub-blocks were expected, got {len(self.blocks)} blocks")

    @property
    def written(self) -> str:
        """Return the language that is written, or nothing if it is not known."""
        return self.language or ("en" if self.alphabet == ENGLISH else "")

    @property
    def samples_per_frame(self) -> int:
        """Return the number of samples from one frame of posteriors to the next."""
        samples = self.features.hop_length
        for block in self.blocks:
            samples *= block.stride
        return samples


def jasper(blocks: int, repeat: int) -> JasperConfig:
    """Return Jasper BxR of the paper (Li et al. 2019, table 1), with `blocks` a multiple of 5."""
    sizes = ((256, 11, 0.2), (384, 13, 0.2), (512, 17, 0.2), (640, 21, 0.3), (768, 25, 0.3))
    middle = [
        BlockConfig(filters, kernel, repeat, dropout=dropout, residual="dense")
        for filters, kernel, dropout in sizes
        for _ in range(blocks // 5)
    ]
    first = BlockConfig(256, 11, stride=2, dropout=0.2)
    last = (BlockConfig(896, 29, dilation=2, dropout=0.4), BlockConfig(1024, 1, dropout=0.4))
    return JasperConfig((first, *middle, *last))


def jasper_10x5dr() -> JasperConfig:
    """Return Jasper 10x5 dense residual, 333 M parameters."""
    return jasper(10, 5)


def jasper_5x3() -> JasperConfig:
    """Return Jasper 5x3, 110 M parameters."""
    return jasper(5, 3)


def jasper_small() -> JasperConfig:
    """Return a Jasper 5x2 that one CPU core can train, 2.5 M parameters."""
    sizes = ((64, 11), (80, 13), (96, 17), (112, 21), (128, 25))
    middle = [BlockConfig(filters, kernel, 2, dropout=0.1, residual="dense") for filters, kernel in sizes]
    first = BlockConfig(64, 11, stride=2, dropout=0.1)
    last = (BlockConfig(128, 29, dilation=2, dropout=0.2), BlockConfig(192, 1, dropout=0.2))
    return JasperConfig((first, *middle, *last))


def quartznet_15x5() -> JasperConfig:
    """Return QuartzNet 15x5 (Kriman et al. 2020, table 1), 19 M parameters."""
    sizes = ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75))
    block = BlockConfig(256, 33, separable=True)
    middle = [
        replace(block, filters=filters, kernel=kernel, repeat=5, residual="block")
        for filters, kernel in sizes
        for _ in range(3)
    ]
    last = (replace(block, filters=512, kernel=87, dilation=2), BlockConfig(1024, 1))
    return JasperConfig((replace(block, stride=2), *middle, *last))


PRESETS = {
    "small": jasper_small,
    "jasper_5x3": jasper_5x3,
    "jasper_10x5dr": jasper_10x5dr,
    "quartznet_15x5": quartznet_15x5,
}
"""Model sizes by the names of `lipsound2 recognizer train --preset`."""
