"""A name or a sample of speech -> the speaker embedding that a model of many voices speaks with."""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2 import media
from lipsound2.errors import ConfigError, MediaError
from lipsound2.model import LipSound2
from lipsound2.model.preprocess import View
from lipsound2.packs.familiarity import Familiarity, look_at
from lipsound2.packs.voices import PackVoices
from lipsound2.runtime.names import is_folder
from lipsound2.voice.encoder import RATE, embed

SHORTEST = 1.0
"""Seconds of speech that a sample must have."""


class Voice(NamedTuple):
    """A voice to speak with: its name, or the file that it was heard in, and its speaker embedding."""

    name: str
    embedding: Float[Tensor, " voice_dim"]


def choose_voice(asked: str | Path, voices: PackVoices | None, pack: str, dim: int) -> Voice:
    """Find a voice.

    Args:
        asked: Name of one of the pack's voices, or a file with speech of the voice that is wanted.
        voices: Those of the pack.
        pack: Its name.
        dim: Size of the model's condition; 0 for a model of one voice.

    Raises:
        ConfigError: The model has one voice only, or the pack has none of that name.
        MediaError: The file has no second of sound.
    """
    if not dim:
        raise ConfigError(f"{pack} has one voice", "leave --voice out, or choose a pack that has more")
    if voices and str(asked) in voices.names:
        return Voice(str(asked), voices.named(str(asked)))
    path = Path(asked)
    if is_folder(asked) or not path.is_file():
        known = f"one of {', '.join(voices.names)}, or" if voices else "name"
        raise ConfigError(f"{pack} has no voice {str(asked)!r}, and there is no such file", f"{known} an audio file")
    wave = media.read_audio(path, RATE)
    if wave is None or len(wave) < SHORTEST * RATE:
        raise MediaError(f"{path} holds less than {SHORTEST:g} s of sound", "give a few seconds of one voice")
    embedding = torch.from_numpy(embed(wave))
    if not embedding.any():
        raise MediaError(f"{path} is silent", "give a few seconds of one voice")
    return Voice(path.name, embedding)


def nearest_voice(
    model: LipSound2, video: View, voices: PackVoices | None, familiarity: Familiarity | None, pack: str
) -> Voice:
    """Return the voice of the training speaker whose face is nearest to the one in a stretch of video.

    Raises:
        ConfigError: The pack does not know its speakers' faces and voices.
    """
    if voices is None or familiarity is None:
        raise ConfigError(f"{pack} speaks in any voice and has none of its own", "give one with --voice FILE")
    name = voices.nearest(familiarity.statistics, look_at(model, video, familiarity.layer))
    return Voice(name, voices.named(name))
