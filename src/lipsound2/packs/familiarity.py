"""What the encoder sees of a face -> how well a pack knows it, in 0..1.

Early layers of the encoder tell faces, light and camera angles apart. Their mean over a clip is compared with that of
the training clips: each speaker a Gaussian about a mean of its own, all of one covariance, and the nearest counts. The
encoder runs anyway, so the measure costs a mean, and it changes nothing of what is spoken.

    pack/
      familiarity.json          which layer, the threshold and how it was found
      familiarity.safetensors   means and covariance
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lipsound2.config import MOST_LAYERS, in_range, read_config, to_json
from lipsound2.errors import CheckpointError
from lipsound2.model import LipSound2
from lipsound2.model.lipsound import Lips
from lipsound2.model.preprocess import View, standardize
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.weights import load_weights, save_weights

SETTINGS_NAME = "familiarity.json"
STATISTICS_NAME = "familiarity.safetensors"
SHORTEST = 12
"""Video frames that a face must be seen to be judged."""

Features = Float[Tensor, " features"]


@dataclass(frozen=True)
class Layer:
    """Configure which encoder features are compared.

    Attributes:
        block: Convolution block, from 0.
        cells: Feature maps are averaged in so many cells a side.
    """

    block: int = 1
    cells: int = 3

    def __post_init__(self) -> None:
        in_range(self, 0, MOST_LAYERS, "block")
        in_range(self, 1, MOST_LAYERS, "cells")


@dataclass(frozen=True)
class Calibration:
    """Configure how distances become a measure in 0..1.

    Attributes:
        layer: What is compared.
        middle: Logarithm of the distance at which the measure is a half.
        slope: How fast it falls there.
        threshold: A face below it counts as unknown.
        clips: How many clips the statistics and the calibration come from, by kind.
    """

    layer: Layer
    middle: float
    slope: float
    threshold: float = 0.5
    clips: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        in_range(self, -inf, inf, "middle", "slope", "threshold")


@dataclass(frozen=True)
class Statistics:
    """Where the training clips lie.

    Attributes:
        offset, scale: Of each feature, which are taken out first.
        centres: Mean of each speaker, and of each speaker mirrored.
        basis: Directions of the largest variation among the clips of one speaker.
        variances: Along them.
        rest: Variance along each of all other directions, one value.
    """

    offset: Float[Tensor, " features"]
    scale: Float[Tensor, " features"]
    centres: Float[Tensor, "speakers features"]
    basis: Float[Tensor, "directions features"]
    variances: Float[Tensor, " directions"]
    rest: Float[Tensor, " 1"]

    def distance(self, features: Features) -> float:
        """Return the logarithm of the squared Mahalanobis distance a feature, to the nearest centre."""
        return math.log(float(self._squared(features).min()) / len(features) + 1e-12)

    def nearest(self, features: Features) -> int:
        """Return the number of the nearest centre."""
        return int(self._squared(features).argmin())

    def _squared(self, features: Features) -> Float[Tensor, " speakers"]:
        away = (features - self.offset) / self.scale - self.centres
        along = away @ self.basis.T
        outside = (away.square().sum(1) - along.square().sum(1)).clamp(min=0)
        return (along.square() / self.variances).sum(1) + outside / self.rest


@dataclass(frozen=True)
class Familiarity:
    """The measure of a pack."""

    statistics: Statistics
    calibration: Calibration

    def __call__(self, features: Features) -> float:
        """Return how well a face is known, in 0..1."""
        distance = self.statistics.distance(features)
        exponent = self.calibration.slope * (distance - self.calibration.middle)
        return 1 / (1 + math.exp(min(exponent, 700.0)))

    @property
    def layer(self) -> Layer:
        """What it looks at."""
        return self.calibration.layer

    def note(self, measure: float, pack: str) -> str | None:
        """Return what a user should know if a face counts as unknown."""
        if measure >= self.calibration.threshold:
            return None
        return (
            f"the pack {pack} was not trained on this face, or not seen like this (familiarity {measure:.2f}, known "
            f"from {self.calibration.threshold:g}): it has only its own voices and words, do not trust what it says"
        )

    def save(self, folder: Path) -> None:
        """Write the files of a pack."""
        save_weights(folder / STATISTICS_NAME, vars(self.statistics), torch.float16)
        write_text(folder / SETTINGS_NAME, to_json(self.calibration))


def load_familiarity(folder: Path, model: Lips) -> Familiarity | None:
    """Read the measure of a pack, or nothing if it has none.

    Raises:
        CheckpointError: It was not made for this model.
    """
    if not (folder / STATISTICS_NAME).is_file():
        return None
    calibration = read_config(folder / SETTINGS_NAME, Calibration)
    tensors = {name: tensor.float() for name, tensor in load_weights(folder / STATISTICS_NAME).items()}
    layer, channels = calibration.layer, model.config.encoder.channels
    if layer.block >= len(channels) or not _fit(tensors, channels[layer.block] * layer.cells**2):
        raise CheckpointError(f"{folder / STATISTICS_NAME} was not made for this model", "make the pack again")
    return Familiarity(Statistics(**tensors), calibration)


def _fit(tensors: Mapping[str, Tensor], features: int) -> bool:
    """Return whether tensors are statistics of so many features."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    speakers, directions = (shapes.get(name, ())[:1] or (0,) for name in ("centres", "variances"))
    return speakers > (0,) and shapes == {
        "offset": (features,),
        "scale": (features,),
        "centres": (*speakers, features),
        "basis": (*directions, features),
        "variances": directions,
        "rest": (1,),
    }


@contextmanager
def observe(model: Lips, layer: Layer) -> Iterator[list[Features]]:
    """Collect the features of each window that the model sees meanwhile."""
    seen: list[Features] = []

    def look(_module: object, _inputs: object, output: Tensor) -> None:
        cells = functional.adaptive_avg_pool2d(output[0].float().mean(1), layer.cells)
        seen.append(cells.flatten().cpu())

    handle = model.watch(layer.block, look)
    try:
        yield seen
    finally:
        handle.remove()


@torch.inference_mode()
def look_at(model: LipSound2, video: View, layer: Layer) -> Features:
    """Compute the features of a stretch of video as `observe` does, by the first blocks of the encoder alone."""
    frames = video.shape[1]
    lengths = torch.tensor([frames], device=video.device)
    with observe(model, layer) as seen:
        pixels, mask = standardize(video[None], lengths), torch.ones(1, 1, frames, 1, 1, device=video.device)
        for block in model.encoder.blocks[: layer.block + 1]:
            pixels = block(pixels, mask)
    return seen[0]
