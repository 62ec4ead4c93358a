"""What a model must supply to be trained by the loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import matplotlib.figure
import numpy as np
import torch
import torch.distributed
from jaxtyping import Float32
from torch import Tensor, nn
from torch.utils.data import Dataset

BatchT = TypeVar("BatchT")
T = TypeVar("T")


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


class Task(ABC, Generic[BatchT]):
    """A model with its data, its loss and its validation.

    Attributes:
        model: What is trained.
        train: Training data; items are asked for by `Place`.
    """

    model: nn.Module
    train: Dataset[Any]

    @abstractmethod
    def collate(self, examples: Sequence[Any]) -> Any:
        """Make a batch of training examples; runs in the processes that load data."""

    def ready(self, batch: Any, device: torch.device) -> BatchT:
        """Bring a batch to the device that trains, and do there what is better done for all of its examples at once."""
        return moved(batch, device)

    @abstractmethod
    def loss(
        self, model: nn.Module, batch: BatchT, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss and its parts, without waiting for the device.

        Args:
            model: The model, possibly wrapped for several processes.
            batch: Training examples, on the model's device.
            epoch: Epochs done, with their fraction.
            generator: Source of all that is random, apart from dropout.
        """

    @abstractmethod
    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Run a model as it will be used, with gradients off; `show` asks for pictures and sounds too.

        All processes of a run call it at the same time and must return the same score.
        """

    @abstractmethod
    def config(self) -> Any:
        """Return the dataclass from which the model can be rebuilt."""

    def lengths(self) -> list[int]:
        """Return how long each training example is, in any unit; nothing if all are about equally long."""
        return []

    def seconds(self, batch: BatchT) -> float:
        """Return how many seconds of recording a batch holds; 0 if that is unknown."""
        return 0.0

    def learn(self, average: nn.Module, done: float) -> bool:
        """Change the training data by what was learned so far, after an epoch; return whether they changed.

        Args:
            average: The EMA of the model, in evaluation mode.
            done: Share of the training that is done.
        """
        return False

    def state(self) -> dict[str, Any]:
        """Return what `learn` found, as JSON; a resumed run gets it back."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""


def moved(batch: Any, device: torch.device) -> Any:
    """Move the tensors of a tuple of tensors to a device."""
    parts = (part.to(device, non_blocking=True) if isinstance(part, Tensor) else part for part in batch)
    return type(batch)(*parts)


def shared(count: int) -> Iterator[int]:
    """Choose the part of `count` pieces of work that falls to this process of the run."""
    alone = not torch.distributed.is_initialized()
    first, step = (0, 1) if alone else (torch.distributed.get_rank(), torch.distributed.get_world_size())
    return iter(range(first, count, step))


def gathered(rows: dict[int, T]) -> list[T]:
    """Collect what all processes found, by the number of each piece of work, in order."""
    if torch.distributed.is_initialized():
        parts: list[dict[int, T]] = [{} for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, rows)
        rows = {number: row for part in parts for number, row in part.items()}
    return [rows[number] for number in sorted(rows)]
