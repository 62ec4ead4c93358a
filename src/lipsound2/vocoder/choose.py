"""A name -> a loaded vocoder."""

from collections.abc import Callable
from pathlib import Path

import torch

from lipsound2.config import AudioConfig
from lipsound2.errors import CheckpointError, ConfigError
from lipsound2.runtime.names import is_folder
from lipsound2.vocoder.base import Vocoder
from lipsound2.vocoder.griffin_lim import GriffinLim
from lipsound2.vocoder.hifigan import HifiGan, load_hifigan
from lipsound2.vocoder.synthesis import WaveGlowVocoder, load_waveglow, waveglow_folder

Loader = Callable[[AudioConfig, Path | None, torch.device | str], Vocoder]
"""Settings of the mels, the folder of the pack's WaveGlow if it has one, a device -> a vocoder."""


def choose_vocoder(name: str, audio: AudioConfig, packed: Path | None, device: torch.device | str = "cpu") -> Vocoder:
    """Load the vocoder that a user asked for.

    Args:
        name: One of `VOCODERS`, of which `waveglow` is the pack's own; or the folder of a WaveGlow.
        audio: Settings of the mels.
        packed: Folder of the pack's WaveGlow, if it has one.
        device: A torch device.

    Raises:
        ConfigError: There is none of that name.
        CheckpointError: It cannot be loaded.
        MissingExtraError: It is not installed.
    """
    if name in VOCODERS:
        return VOCODERS[name](audio, packed, device)
    if not is_folder(name):
        raise ConfigError(f"unknown vocoder {name!r}", f"known: {', '.join(VOCODERS)}, or the folder of a WaveGlow")
    return WaveGlowVocoder(load_waveglow(waveglow_folder(Path(name)), device))


def _packed_waveglow(audio: AudioConfig, packed: Path | None, device: torch.device | str) -> Vocoder:
    if packed is None:
        raise CheckpointError(
            "the pack holds no WaveGlow", "give the folder of one, as `lipsound2 vocoder train` makes it"
        )
    return WaveGlowVocoder(load_waveglow(packed, device))


VOCODERS: dict[str, Loader] = {
    GriffinLim.name: lambda audio, packed, device: GriffinLim(audio),
    WaveGlowVocoder.name: _packed_waveglow,
    HifiGan.name: lambda audio, packed, device: load_hifigan(audio, device),
}
"""Vocoders by the name that `--vocoder` takes. See docs/extending.md."""
