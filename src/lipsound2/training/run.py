"""A recipe and prepared folders -> a run folder, for every training command."""

import atexit
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import lightning_fabric
import torch
import torch.distributed

from lipsound2.data.shards import Entry
from lipsound2.errors import ConfigError
from lipsound2.packs.history import history_of
from lipsound2.runtime.devices import count_devices, find_device
from lipsound2.runtime.plans import differences
from lipsound2.training.agreement import as_one
from lipsound2.training.begin import Begun, beginning
from lipsound2.training.config import TrainConfig
from lipsound2.training.loop import fit
from lipsound2.training.opening import describe, keep_history
from lipsound2.training.strategies import find_strategy
from lipsound2.training.task import Task

M = TypeVar("M")


@dataclass(frozen=True)
class Sources:
    """Data of a run.

    Attributes:
        prepared: What `lipsound2 prepare` wrote.
        generated: What `lipsound2.training.generated` wrote for it, for the tasks that use it.
        more: Folders of more training speech, in the format of `generated`.
    """

    prepared: Path
    generated: Path | None = None
    more: tuple[Path, ...] = ()


class Assembled(NamedTuple):
    """A run that can begin.

    Attributes:
        recipe: The recipe with the model that is trained.
        begun: The other things that the run depends on.
        train: Clips that are trained on.
        val: Clips that are validated on.
        test: Clips of the same folder that are held out.
        make: Returns the task once the run's folder is locked and the random seed set; it may write files there.
    """

    recipe: "Recipe"
    begun: Begun
    train: Sequence[Entry]
    val: Sequence[Entry]
    test: Sequence[Entry]
    make: Callable[[Path], Task[Any]]


@runtime_checkable
class Recipe(Protocol):
    """All settings of a run apart from its data and devices: a frozen dataclass."""

    @property
    def train(self) -> TrainConfig:
        """The loop's settings."""
        ...

    def assemble(self, sources: Sources, start: Path | str | None, fabric: lightning_fabric.Fabric) -> Assembled:
        """Open the data and the model that the run starts from.

        Args:
            sources: Data of the run.
            start: A run folder, or a pack by name or folder; None trains from scratch.
            fabric: Devices and precision; already launched.

        Raises:
            ConfigError: A setting would have no effect, or does not fit the data or the model.
        """
        ...


def run(
    recipe: Recipe,
    sources: Sources | Path,
    folder: Path,
    start: Path | str | None,
    fabric: lightning_fabric.Fabric,
) -> float:
    """Train a model, or resume an earlier call.

    Args:
        recipe: Settings.
        sources: Data of the run; a path is a prepared folder.
        folder: Folder of the run.
        start: A run folder, or a pack by name or folder; None trains from scratch.
        fabric: Devices and precision.

    Returns:
        The best validation score.
    """
    fabric.launch()
    with as_one(fabric):
        assembled = recipe.assemble(sources if isinstance(sources, Sources) else Sources(sources), start, fabric)
    with beginning(folder, assembled.recipe, assembled.begun, fabric):
        with as_one(fabric):
            torch.manual_seed(recipe.train.seed)
            task = assembled.make(folder)
            if fabric.is_global_zero:
                keep_history(folder, start, history_of(assembled.train, assembled.val, assembled.test))
                describe(task, assembled.train, assembled.val, fabric.device)
        return fit(task, recipe.train, folder, fabric)


def keep_model(asked: M | None, start: M | None, default: Callable[[], M]) -> M:
    """Return the configuration of the trained model: that of the model it starts from, else the recipe's.

    Args:
        asked: Configuration in the recipe, or None.
        start: Configuration of the model that the run starts from, or None.
        default: Returns the configuration for a recipe without one.

    Raises:
        ConfigError: The recipe's model is not the one that the run starts from.
    """
    if start is None:
        return default() if asked is None else asked
    others = [] if asked is None else differences(start, asked, "model")
    if others:
        raise ConfigError(
            f"fine-tuning keeps the model that it starts from, the recipe asks for another: {'; '.join(others)}",
            "leave `model` out of the recipe, or train from scratch",
        )
    return start


def make_fabric(device: str, devices: int, precision: str, strategy: str = "auto") -> lightning_fabric.Fabric:
    """Choose devices and processes.

    Under torchrun or `fabric run` they set the number of processes and nodes.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        devices: Number of processes on this machine.
        precision: See `TrainConfig`.
        strategy: See `TrainConfig`.

    Raises:
        ConfigError: There is no such device, there are not so many, or the strategy does not fit.
    """
    kind, _, number = find_device(device).partition(":")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = int(os.environ.get("WORLD_SIZE", local)) // local
    most = count_devices(kind)
    if local > (1 if number else most or local):
        raise ConfigError(f"{local} processes for {1 if number else most} of {device}", "give fewer with --devices")
    chosen = find_strategy(strategy, local * nodes)
    if local * nodes > 1:
        atexit.register(_leave)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if kind == "cuda":
        torch.set_float32_matmul_precision("high")  # TensorFloat-32
    return lightning_fabric.Fabric(
        accelerator=kind,
        devices=[int(number)] if number and kind != "cpu" else local,
        num_nodes=nodes,
        strategy=chosen,
        precision=precision,  # type: ignore[arg-type]
    )


def _leave() -> None:
    """End the process group before the interpreter ends, whose threads could otherwise abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
