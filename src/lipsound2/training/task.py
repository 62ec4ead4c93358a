"""What a model must supply to be trained by the loop."""

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import matplotlib.figure
import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.utils.data import Dataset

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        score: What the best checkpoint is chosen by; lower is better.
        scalars: Figures to log.
        figures: Pictures to log.
        sounds: Waves to log.
        sample_rate: Of the waves, in Hz.
    """

    score: float
    scalars: dict[str, float]
    figures: dict[str, matplotlib.figure.Figure] = field(default_factory=dict)
    sounds: dict[str, Float32[np.ndarray, " samples"]] = field(default_factory=dict)
    sample_rate: int = 16_000


@runtime_checkable
class Task(Protocol[BatchT]):
    """A model with its data, its loss and its validation.

    Attributes:
        name: Kind of run, such as `mel`.
        model: What is trained.
        train: Training data; items are asked for by `Place`.
    """

    name: str

    @property
    def model(self) -> nn.Module: ...  # noqa: D102

    @property
    def train(self) -> Dataset[Any]: ...  # noqa: D102

    def collate(self, examples: list[Any]) -> BatchT:
        """Make a batch of training examples."""
        ...

    def loss(
        self, model: nn.Module, batch: BatchT, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss and its parts.

        Args:
            model: The model, possibly wrapped for several processes.
            batch: Training examples, on the model's device.
            epoch: Epochs done, with their fraction.
            generator: Source of all that is random, apart from dropout.
        """
        ...

    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Run a model as it will be used; `show` asks for pictures and sounds too."""
        ...

    def config(self) -> Any:
        """Give the dataclass from which the model can be rebuilt."""
        ...
