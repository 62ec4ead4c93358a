"""Interface between the training loop and a task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import matplotlib.figure
import numpy as np
import torch
import torch.distributed
from jaxtyping import Float32
from torch import Tensor, nn
from torch.utils.data import Dataset

from lipsound2.errors import LipSoundError

BatchT = TypeVar("BatchT")
T = TypeVar("T")


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes:
        score: Score that selects the best checkpoint; lower is better.
        scalars: Scalars to log.
        figures: Figures to log.
        sounds: Audio to log.
        sample_rate: Of the audio, in Hz.
    """

    score: float
    scalars: dict[str, float]
    figures: dict[str, matplotlib.figure.Figure] = field(default_factory=dict)
    sounds: dict[str, Float32[np.ndarray, " samples"]] = field(default_factory=dict)
    sample_rate: int = 16_000


class Task(ABC, Generic[BatchT]):
    """A model with its data, its loss and its validation.

    Attributes:
        model: The trained model.
        train: Training data, indexed by `Place`.
        legend: What its scores mean, on one line.
    """

    legend: ClassVar[str] = ""
    model: nn.Module
    train: Dataset[Any]

    @property
    @abstractmethod
    def collate(self) -> Callable[[Sequence[Any]], Any]:
        """The function that makes a batch of training examples; loader processes get it, so it holds no model."""

    def ready(self, batch: Any, device: torch.device) -> BatchT:
        """Move a batch to the training device, and do the work there that is done for all examples at once."""
        return moved(batch, device)

    @abstractmethod
    def loss(
        self, model: nn.Module, batch: BatchT, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss and its parts, without synchronising with the device.

        Args:
            model: The model, possibly wrapped for several processes.
            batch: Training examples, on the model's device.
            epoch: Epochs done, with their fraction.
            generator: Source of randomness, apart from dropout.
        """

    @abstractmethod
    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Validate a model as at inference, without gradients; `show` asks for figures and audio too.

        All processes of a run call it at the same time and must return the same score.
        """

    @abstractmethod
    def config(self) -> Any:
        """Return the dataclass from which the model can be rebuilt."""

    def lengths(self) -> list[int]:
        """Return the length of each training example in any unit; empty if all are about equally long."""
        return []

    def seconds(self, batch: BatchT) -> float:
        """Return the seconds of recordings in a batch; 0 if unknown."""
        return 0.0

    def learn(self, average: nn.Module, done: float) -> bool:
        """Update the training data with what was learned, after an epoch; return whether they changed.

        Args:
            average: The EMA of the model, in evaluation mode.
            done: Share of the training that is done.
        """
        return False

    def state(self) -> dict[str, Any]:
        """Return the results of `learn` as JSON, for checkpoints."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""


def moved(batch: Any, device: torch.device) -> Any:
    """Move the tensors of a tuple of tensors to a device."""
    parts = (part.to(device, non_blocking=True) if isinstance(part, Tensor) else part for part in batch)
    return type(batch)(*parts)


def share_out(count: int, work: Callable[[int], Mapping[int, T]]) -> list[T]:
    """Do pieces of work in all processes of a run, each its share, and collect the results of all.

    Args:
        count: Number of pieces; every process must give the same.
        work: Called with the number of a piece; returns results by their place among all.

    Returns:
        The results in order, the same in every process.

    Raises:
        LipSoundError: The first that any process met; all of them raise it, so that none waits for ever.
    """
    several = torch.distributed.is_initialized()
    first, step = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if several else (0, 1)
    rows: dict[int, T] = {}
    error: LipSoundError | None = None
    try:
        for number in range(first, count, step):
            rows |= work(number)
    except LipSoundError as raised:
        error = raised
    parts: list[Any] = [(rows, error)]
    if several:
        parts = [None] * step
        torch.distributed.all_gather_object(parts, (rows, error))
    for _, failed in parts:
        if failed is not None:
            raise failed
    every = {place: row for part, _ in parts for place, row in part.items()}
    return [every[place] for place in sorted(every)]
