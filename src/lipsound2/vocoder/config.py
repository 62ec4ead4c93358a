"""Settings of the vocoders that are trained; one travels in each vocoder's folder."""

from dataclasses import dataclass, field
from math import inf

from lipsound2.config import MOST_LAYERS, MOST_UNITS, AudioConfig, audio_16k, audio_22k, in_range
from lipsound2.errors import ConfigError

MOST_DOUBLINGS = 16
"""Layers of a coupling, each of which sees twice as far as the one before."""


@dataclass(frozen=True)
class WaveGlowConfig:
    """Describe a WaveGlow (Prenger, Valle & Catanzaro 2018): sound <-> noise, given the mel.

    Attributes:
        audio: Settings of mel and sound.
        group: Samples that make one step of the flows, as its channels.
        flows: Each a mixing of the channels and a coupling of one half to the other.
        early_every: Flows after which some channels leave.
        early_size: How many leave each time; 0 keeps all to the end.
        layers: Of the network in each coupling; layer i is dilated by 2^i steps.
        channels: Of that network.
        kernel: Width of its convolutions, odd.
        condition: Channels of the mel once it is upsampled to steps.
        lead: Steps by which the upsampled mel comes early; half of what a window exceeds a hop centres it.
        prediction: Order of the linear prediction whose residual the flows see; 0 shows them the sound itself.
        mel_mean: Taken from the log-mel.
        mel_std: By which it is then divided.
        sigma: Standard deviation of the noise that sound is made of.
        denoise: How much of what the model says without noise is taken away (NVIDIA's bias denoiser); 0 none.
        consistency: Times that the mel of the sound is brought towards the given one (see `vocoder.consistency`).
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
            raise ConfigError(f"the lead of {self.lead} steps is longer than what a window exceeds a hop")
        if self.prediction > self.audio.hop_length:
            raise ConfigError(f"a prediction of order {self.prediction} is longer than a hop")
        if any(width < 2 or width % 2 for width in self.widths):
            raise ConfigError(f"each flow needs an even number of channels, got {self.widths}")

    @property
    def widths(self) -> list[int]:
        """Channels that are left in each flow."""
        return [self.group - self.early_size * (flow // self.early_every) for flow in range(self.flows)]

    @property
    def steps_per_frame(self) -> int:
        """Steps of the flows in a mel frame."""
        return self.audio.hop_length // self.group

    @property
    def context(self) -> int:
        """Mel frames to either side that can change a sample; beyond them nothing does.

        With linear prediction the past echoes on without end, though not audibly for long.
        """
        reach = self.flows * (2**self.layers - 1) * (self.kernel // 2)
        echo = 20 if self.prediction else 0
        return -(-reach // self.steps_per_frame) + self.audio.win_length // self.audio.hop_length + 1 + echo


def waveglow_256() -> WaveGlowConfig:
    """Give NVIDIA's configuration, that of its published weights."""
    return WaveGlowConfig()


def waveglow_small() -> WaveGlowConfig:
    """Give a WaveGlow that two CPU cores can train, and run faster than real time."""
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
    return WaveGlowConfig(
        audio=audio_16k(),
        group=16,
        flows=10,
        early_size=0,
        layers=5,
        channels=128,
        condition=96,
        lead=15,
        prediction=32,
        mel_mean=-5.0,
        mel_std=2.0,
    )


@dataclass(frozen=True)
class VocoderLossConfig:
    """Say what a WaveGlow is taught.

    Attributes:
        sigma: Standard deviation of the noise in training (the paper's equation 10).
        spectral_weight: Weight of the distance between the spectra of true sound and of sound made of other
            noise; 0 is the paper's likelihood alone.
        segment: Mel frames a segment.
        generated_share: Share of the segments that see the mel of a model instead of the true one, if mels of a
            model are given.
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
