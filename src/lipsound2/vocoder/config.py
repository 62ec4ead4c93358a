"""Settings of trained vocoders, saved in each vocoder's folder."""

from dataclasses import dataclass, field, replace
from math import inf

from lipsound2.config import MOST_LAYERS, MOST_UNITS, AudioConfig, audio_16k, audio_22k, in_range
from lipsound2.errors import ConfigError

MOST_DOUBLINGS = 16
"""Most layers of a coupling; dilation doubles with each."""


@dataclass(frozen=True)
class WaveGlowConfig:
    """Configuration of a WaveGlow (Prenger, Valle & Catanzaro 2018): audio <-> noise, conditioned on the mel.

    Attributes:
        audio: Settings of mel and audio.
        group: Samples that are squeezed into the channels of one step.
        flows: Number of flows, each an invertible 1x1 convolution and an affine coupling.
        early_every: Flows between early outputs.
        early_size: Channels of each early output; 0 for none.
        layers: Number of layers of each coupling's network; layer i has dilation 2^i.
        channels: Number of its channels.
        kernel: Kernel size of its convolutions, odd.
        condition: Channels of the upsampled mel.
        lead: Steps by which the upsampled mel is early; half of window minus hop centres it.
        prediction: Order of the linear prediction whose residual the flows model; 0 models the audio itself.
        mel_mean: Mean that is subtracted from the log-mel.
        mel_std: Standard deviation by which it is divided.
        sigma: Standard deviation of the noise at inference.
        denoise: Strength of the bias denoiser (NVIDIA's); 0 for none.
        consistency: Iterations of mel consistency (see `vocoder.consistency`).
    """

    audio: AudioConfig = field(default_factory=audio_22k)
    group: int = 8
    flows: int = 12
    early_every: int = 4
    early_size: int = 2
    layers: int = 8
    channels: int = 256
    kernel: int = 3
    condition: int = 640
    lead: int = 0
    prediction: int = 0
    mel_mean: float = 0.0
    mel_std: float = 1.0
    sigma: float = 0.6
    denoise: float = 0.0
    consistency: int = 0

    def __post_init__(self) -> None:
        in_range(self, 1, MOST_LAYERS, "flows", "early_every")
        in_range(self, 1, MOST_DOUBLINGS, "layers")
        in_range(self, 1, MOST_UNITS, "group", "channels", "kernel", "condition")
        in_range(self, 0, MOST_UNITS, "early_size", "prediction")
        in_range(self, 0, inf, "mel_std", above=True)
        in_range(self, 0, inf, "sigma", "denoise")
        in_range(self, 0, MOST_LAYERS, "consistency")
        for name, length in (("hop", self.audio.hop_length), ("window", self.audio.win_length)):
            if length % self.group:
                raise ConfigError(f"the {name} of {length} samples is not a multiple of the group, {self.group}")
        if self.kernel % 2 == 0:
            raise ConfigError(f"an odd kernel was expected, got {self.kernel}")
        if not 0 <= self.lead <= (self.audio.win_length - self.audio.hop_length) // self.group:
            raise ConfigError(f"the lead of {self.lead} steps is longer than window minus hop")
        if self.prediction > self.audio.hop_length:
            raise ConfigError(f"a prediction of order {self.prediction} is longer than a hop")
        if any(width < 2 or width % 2 for width in self.widths):
            raise ConfigError(f"each flow needs an even number of channels, got {self.widths}")

    @property
    def widths(self) -> list[int]:
        """Return the number of channels in each flow."""
        return [self.group - self.early_size * (flow // self.early_every) for flow in range(self.flows)]

    @property
    def steps_per_frame(self) -> int:
        """Return the number of steps per mel frame."""
        return self.audio.hop_length // self.group

    @property
    def context(self) -> int:
        """Return the receptive field to either side of a sample, in mel frames.

        With linear prediction the response to the past is infinite, though not audible for long.
        """
        reach = self.flows * (2**self.layers - 1) * (self.kernel // 2)
        echo = 20 if self.prediction else 0
        return -(-reach // self.steps_per_frame) + self.audio.win_length // self.audio.hop_length + 1 + echo


def waveglow_256() -> WaveGlowConfig:
    """Return the configuration of NVIDIA's published weights."""
    return WaveGlowConfig()


def waveglow_small() -> WaveGlowConfig:
    """Return a WaveGlow that two CPU cores can train, and run faster than real time."""
    return WaveGlowConfig(
        audio=audio_16k(),
        group=40,
        flows=8,
        early_size=0,
        layers=4,
        channels=96,
        condition=96,
        lead=6,
        prediction=32,
        mel_mean=-5.0,
        mel_std=2.0,
    )


def waveglow_medium() -> WaveGlowConfig:
    """Return a WaveGlow for a GPU to train; two CPU cores run it faster than real time."""
    return replace(waveglow_small(), group=16, flows=10, layers=5, channels=128, lead=15)


@dataclass(frozen=True)
class VocoderLossConfig:
    """Settings of a WaveGlow's loss.

    Attributes:
        sigma: Standard deviation of the noise in training (the paper's equation 10).
        spectral_weight: Weight of the spectral distance between reference audio and audio generated from other
            noise; 0 is the paper's likelihood alone.
        segment: Mel frames per segment.
        generated_share: Share of the segments with a generated mel instead of the reference, if generated mels are
            given.
    """

    sigma: float = 1.0
    spectral_weight: float = 0.0
    segment: int = 64
    generated_share: float = 0.5

    def __post_init__(self) -> None:
        in_range(self, 0, inf, "sigma", above=True)
        in_range(self, 0, inf, "spectral_weight")
        in_range(self, 1, inf, "segment")
        in_range(self, 0, 1, "generated_share")
