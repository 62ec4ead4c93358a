"""The voices of a pack: speaker embeddings by name, for a model that is conditioned on them.

pack/
voices.json          names, sorted
voices.safetensors   an embedding each
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.config import read_config, to_json
from lipsound2.errors import CheckpointError, ConfigError
from lipsound2.packs.familiarity import Features, Statistics
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.weights import load_weights, save_weights

NAMES_NAME = "voices.json"
EMBEDDINGS_NAME = "voices.safetensors"


@dataclass(frozen=True)
class Names:
    """Contents of `voices.json`: the speakers in the order of their embeddings."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class PackVoices:
    """Mean speaker embeddings of the training speakers.

    Attributes:
        names: Speakers, sorted.
        embeddings: One each, of length 1.
    """

    names: tuple[str, ...]
    embeddings: Float[Tensor, "speakers voice_dim"]

    def named(self, name: str) -> Float[Tensor, " voice_dim"]:
        """Return the embedding of a speaker.

        Raises:
            ConfigError: There is none of that name.
        """
        if name not in self.names:
            raise ConfigError(f"the pack has no voice {name!r}", f"one of {', '.join(self.names)}, or an audio file")
        return self.embeddings[self.names.index(name)]

    def nearest(self, statistics: Statistics, features: Features) -> str:
        """Return the speaker whose face is nearest to the face that was seen."""
        return self.names[statistics.nearest(features) * len(self.names) // len(statistics.centres)]

    def save(self, folder: Path) -> None:
        """Write them into a pack."""
        write_text(folder / NAMES_NAME, to_json(Names(self.names)))
        save_weights(folder / EMBEDDINGS_NAME, {"embeddings": self.embeddings}, torch.float16)


def from_speakers(embeddings: Mapping[str, Float[Tensor, " voice_dim"]]) -> PackVoices:
    """Sort speakers by name, the order in which `familiarity` knows them too."""
    names = tuple(sorted(embeddings))
    return PackVoices(names, torch.stack([embeddings[name] for name in names]))


def load_voices(folder: Path, dim: int) -> PackVoices | None:
    """Load the voices of a pack, if it has any.

    Args:
        folder: Of the pack.
        dim: Size of the model's condition.

    Raises:
        CheckpointError: They were not made for its model.
    """
    if not (folder / NAMES_NAME).is_file():
        return None
    names = read_config(folder / NAMES_NAME, Names).names
    embeddings = load_weights(folder / EMBEDDINGS_NAME).get("embeddings")
    if embeddings is None or tuple(embeddings.shape) != (len(names), dim) or not names:
        raise CheckpointError(f"{folder / EMBEDDINGS_NAME} was not made for this model", "make the pack again")
    return PackVoices(names, embeddings.float())
