"""A name -> a loaded vocoder."""

from pathlib import Path

import torch

from lipsound2.config import AudioConfig
from lipsound2.errors import CheckpointError, ConfigError
from lipsound2.runtime.names import is_folder
from lipsound2.vocoder.base import Vocoder
from lipsound2.vocoder.griffin_lim import GriffinLim
from lipsound2.vocoder.hifigan import HifiGan, load_hifigan
from lipsound2.vocoder.synthesis import WaveGlowVocoder, load_waveglow, waveglow_folder

NAMES = (GriffinLim.name, WaveGlowVocoder.name, HifiGan.name)


def choose_vocoder(name: str, audio: AudioConfig, packed: Path | None, device: torch.device | str = "cpu") -> Vocoder:
    """Load the vocoder that a user asked for.

    Args:
        name: One of `NAMES`, of which `waveglow` is the pack's own; or the folder of a WaveGlow.
        audio: Settings of the mels.
        packed: Folder of the pack's WaveGlow, if it has one.
        device: A torch device.

    Raises:
        ConfigError: There is none of that name.
        CheckpointError: It cannot be loaded.
        MissingExtraError: It is not installed.
    """
    if name == GriffinLim.name:
        return GriffinLim(audio)
    if name == HifiGan.name:
        return load_hifigan(audio, device)
    if name != WaveGlowVocoder.name and not is_folder(name):
        raise ConfigError(f"unknown vocoder {name!r}", f"known: {', '.join(NAMES)}, or the folder of a WaveGlow")
    folder = packed if name == WaveGlowVocoder.name else waveglow_folder(Path(name))
    if folder is None:
        raise CheckpointError(
            "the pack holds no WaveGlow", "give the folder of one, as `lipsound2 vocoder train` makes it"
        )
    return WaveGlowVocoder(load_waveglow(folder, device))
