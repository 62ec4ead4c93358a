"""A run that has not begun -> the memory, updates, time and disk that it will take, from a minute of it.

Real updates on the real data, one batch of the validation and one checkpoint are measured in a temporary folder; the
folder of the run is not touched. For several processes one is measured, and what they have to tell each other is not.
"""

import math
import multiprocessing
import os
import shutil
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning_fabric
import torch
from torch import Tensor

from lipsound2.corpora.clip import spread
from lipsound2.data.dataset import EpochBatches
from lipsound2.data.shards import Entry
from lipsound2.errors import ConfigError
from lipsound2.runtime.memory import (
    device_memory,
    device_peak,
    machine_memory,
    peak_memory,
    proportional_memory,
    resident_memory,
)
from lipsound2.runtime.terminal import say
from lipsound2.runtime.weights import WEIGHTS_NAME
from lipsound2.training.checkpoint import save_state
from lipsound2.training.config import TrainConfig
from lipsound2.training.loop import Trainer
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe
from lipsound2.training.run import Sources
from lipsound2.training.tasks.lip2mel import MelTask

MEASURED = 60.0
"""Seconds of updates that are measured."""
WARM_UPDATES, WARM_SECONDS = 5, 20.0
"""Updates that are not counted, or as many as fit into this time: a GPU's graphs are captured, caches filled."""
CHECKPOINTS = 3
"""Checkpoints on the disk at once: two that are kept and one that is written."""


@dataclass(frozen=True)
class Forecast:
    """What a run will take; sizes are in bytes, times in seconds.

    Attributes:
        device: Name of the device.
        processes: Number of processes; one was measured.
        examples: Training examples.
        parameters: Parameters of the model.
        updates_per_epoch: Updates in an epoch.
        updates: Updates in all.
        measured_updates: Updates that were measured.
        measured_seconds: How long they took.
        seconds_per_update: Mean time of an update in the first epoch.
        seconds_per_cached_update: The same in later ones, which find clips in the cache that the first decodes.
        times_real_time: Seconds of recordings in a second, all processes together.
        waiting: Share of the time that is spent waiting for data.
        seconds_to_begin: Time before the first update: reading the index, filling the cache.
        seconds_per_validation: Time of a validation.
        validations: Number of validations.
        seconds_per_checkpoint: Time to write a checkpoint.
        seconds: Time in all.
        weights: Memory of the weights.
        average: Memory of their EMA.
        gradients: Memory of the gradients.
        optimizer: Memory of the optimiser's state.
        activations: Memory of activations, batches and whatever else an update needs, at its peak.
        device_peak: Peak memory on a GPU; 0 of other devices.
        device_total: Memory of the GPU; 0 of other devices.
        host_peak: Peak memory of a process and those that load its data; 0 if not known.
        host_total: Memory of the machine; 0 if not known.
        checkpoint: Size of a checkpoint.
        disk: Size of the run's folder at its largest, apart from its logs.
        disk_free: Room where it will be.
        clips: Size of the clips that are read.
    """

    device: str
    processes: int
    examples: int
    parameters: int
    updates_per_epoch: int
    updates: int
    measured_updates: int
    measured_seconds: float
    seconds_per_update: float
    seconds_per_cached_update: float
    times_real_time: float
    waiting: float
    seconds_to_begin: float
    seconds_per_validation: float
    validations: int
    seconds_per_checkpoint: float
    seconds: float
    weights: int
    average: int
    gradients: int
    optimizer: int
    activations: int
    device_peak: int
    device_total: int
    host_peak: int
    host_total: int
    checkpoint: int
    disk: int
    disk_free: int
    clips: int


def forecast(
    recipe: Lip2MelRecipe,
    sources: Sources,
    output: Path,
    start: Path | str | None,
    fabric: lightning_fabric.Fabric,
    processes: int = 1,
    measured: float | None = None,
) -> Forecast:
    """Measure what a run will take; nothing is written to its folder.

    Args:
        recipe: Settings.
        sources: Data of the run.
        output: Folder that the run would write to.
        start: A run folder, or a pack by name or folder; None trains from scratch.
        fabric: Device and precision, of one process.
        processes: Number of processes that the run would have, on all machines.
        measured: Seconds of updates that are measured, at least one; `MEASURED` by default.

    Raises:
        ConfigError: It was started in several processes.
    """
    if fabric.world_size > 1:
        raise ConfigError("--plan measures one process", "leave out torchrun and give the number with --devices")
    measured = MEASURED if measured is None else measured
    fabric.launch()
    began = time.monotonic()
    assembled = recipe.assemble(sources, start, fabric)
    with TemporaryDirectory(prefix="lipsound2-") as folder:
        torch.manual_seed(recipe.train.seed)
        task = assembled.make(Path(folder))
        assert isinstance(task, MelTask)
        to_begin = time.monotonic() - began
        say(f"measuring for about {measured:.0f} s on {_name(fabric.device)}; nothing is written to {output}")
        trainer = Trainer(task, replace(recipe.train, epochs=10**6), None, fabric)
        pace = _measure_updates(trainer, measured)
        memory = _measure_memory(trainer, pace.before)
        validation = _measure_validation(task, trainer)
        saving, checkpoint, best = _measure_checkpoint(trainer, Path(folder))
    per_epoch = _updates(len(task.train), recipe.train, processes)
    schedule = _Schedule(recipe.train, per_epoch)
    first = pace.seconds / pace.updates
    filled = recipe.on_device or recipe.train.workers > 0
    later = first if filled else first * (1 - trainer.watch.facts()["waiting for data"] * task.train.cached_share())
    return Forecast(
        device=_name(fabric.device),
        processes=processes,
        examples=len(task.train),
        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        updates_per_epoch=per_epoch,
        updates=schedule.updates,
        measured_updates=pace.updates,
        measured_seconds=pace.seconds,
        seconds_per_update=first,
        seconds_per_cached_update=later,
        times_real_time=trainer.watch.facts()["times real time"] * processes,
        waiting=trainer.watch.facts()["waiting for data"],
        seconds_to_begin=to_begin,
        seconds_per_validation=validation / processes,
        validations=schedule.validations,
        seconds_per_checkpoint=saving,
        seconds=to_begin + schedule.seconds(first, later, validation / processes, saving),
        **memory,
        device_peak=device_peak(fabric.device),
        device_total=device_memory(fabric.device),
        host_peak=max(peak_memory(), pace.host),
        host_total=machine_memory(),
        checkpoint=checkpoint,
        disk=CHECKPOINTS * checkpoint + best,
        disk_free=_free(output),
        clips=_size([*assembled.train, *assembled.val]),
    )


@dataclass(frozen=True)
class _Pace:
    """Measured updates, the memory that was held before the first, and that of all processes after the last."""

    updates: int
    seconds: float
    before: int
    host: int


@dataclass(frozen=True)
class _Schedule:
    """How often a run does what."""

    settings: TrainConfig
    per_epoch: int

    @property
    def updates(self) -> int:
        return self.settings.epochs * self.per_epoch

    @property
    def validations(self) -> int:
        return math.ceil(self.updates / (self.settings.validate_steps or self.settings.validate_every * self.per_epoch))

    def seconds(self, first: float, later: float, validation: float, saving: float) -> float:
        training = self.per_epoch * first + (self.updates - self.per_epoch) * later
        between = int(training / (60 * self.settings.checkpoint_minutes)) if self.settings.checkpoint_minutes else 0
        return training + self.validations * (validation + saving) + between * saving


def _updates(examples: int, settings: TrainConfig, processes: int) -> int:
    order = EpochBatches(examples, settings.batch_size, True, world_size=processes, accumulate=settings.accumulate)
    return order.batches // settings.accumulate


def _measure_updates(trainer: Trainer, measured: float) -> _Pace:
    before = resident_memory()
    batches = trainer.load()
    _repeat(trainer, batches, min(WARM_SECONDS, measured), WARM_UPDATES)
    trainer.watch.start()
    began = time.monotonic()
    updates = _repeat(trainer, batches, measured)
    seconds = time.monotonic() - began
    trainer.watch.look(updates)
    family = [os.getpid(), *(child.pid or 0 for child in multiprocessing.active_children())]
    return _Pace(updates, seconds, before, sum(proportional_memory(process) for process in family))


def _repeat(trainer: Trainer, batches: Any, seconds: float, most: int | None = None) -> int:
    """Do updates for so long, one at least, wait until the device has done them, and return their number."""
    began, done = time.monotonic(), 0
    while done == 0 or (time.monotonic() - began < seconds and done != most):
        trainer.step_on(batches)
        done += 1
        if trainer.norm is not None:
            float(trainer.norm)
    return done


def _measure_memory(trainer: Trainer, before: int) -> dict[str, int]:
    model = trainer.task.model
    state = [value for slot in trainer.optimizer.optimizer.state.values() for value in slot.values()]
    found = {
        "weights": _bytes([*model.parameters(), *model.buffers()]),
        "average": _bytes([*trainer.average.parameters(), *trainer.average.buffers()]),
        "gradients": _bytes([parameter for parameter in model.parameters() if parameter.requires_grad]),
        "optimizer": _bytes([value for value in state if isinstance(value, Tensor)]),
    }
    on_device = device_peak(trainer.fabric.device)
    rest = on_device - sum(found.values())
    if not on_device:
        rest = peak_memory() - before - found["gradients"] - found["optimizer"]
    return found | {"activations": max(0, rest)}


def _measure_validation(task: MelTask, trainer: Trainer) -> float:
    """Return the time of a validation, from one batch of it."""
    every = task.val.places
    task.val.places = spread(every, task.batch_size)
    began = time.monotonic()
    with torch.no_grad():
        task.validate(trainer.average, False)
    return (time.monotonic() - began) * len(every) / len(task.val.places)


def _measure_checkpoint(trainer: Trainer, folder: Path) -> tuple[float, int, int]:
    """Return the time and the size of a checkpoint, and the size of a model."""
    began = time.monotonic()
    save_state(folder / "checkpoints", trainer.state())
    seconds = time.monotonic() - began
    sizes = {path.name: path.stat().st_size for path in (folder / "checkpoints").rglob("*") if path.is_file()}
    return seconds, sum(sizes.values()), sizes[WEIGHTS_NAME]


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _size(entries: list[Entry]) -> int:
    return sum(size for entry in entries for _, size in entry.members.values())


def _free(output: Path) -> int:
    place = output.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def to_table(plan: Forecast, settings: TrainConfig, output: Path) -> str:
    """Return a forecast as a table of two columns."""
    together = settings.batch_size * settings.accumulate * plan.processes
    parts = {
        "weights": plan.weights,
        "EMA": plan.average,
        "gradients": plan.gradients,
        "optimiser": plan.optimizer,
        "activations and batches": plan.activations,
    }
    held = ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())
    on_device = f"{_gb(plan.device_peak)} of {_gb(plan.device_total)} at the peak: {held}"
    rows = {
        "measured": f"{plan.measured_updates} updates in {plan.measured_seconds:.0f} s on {plan.device}",
        "model": f"{plan.parameters / 1e6:.1f} M parameters",
        "updates": f"{plan.updates_per_epoch} an epoch, each of {together} examples of {plan.examples}; "
        f"{plan.updates} in {settings.epochs} epochs",
        "time": f"{plan.seconds_per_update:.3g} s an update ({plan.times_real_time:.3g} times real time, "
        f"{plan.waiting:.0%} of it waiting for data); {_clock(plan.seconds_to_begin)} before the first",
        "": f"{_clock(plan.updates_per_epoch * plan.seconds_per_update)} the first epoch, "
        f"{_clock(plan.updates_per_epoch * plan.seconds_per_cached_update)} each after it; {plan.validations} "
        f"validations of {_clock(plan.seconds_per_validation)}, checkpoints of {plan.seconds_per_checkpoint:.2g} s",
        "in all": f"{_clock(plan.seconds)}{' at most' if settings.patience else ''}",
        "device memory": on_device if plan.device_total else f"that of the host: {held}",
        "host memory": f"{_gb(plan.host_peak)} of {_gb(plan.host_total)} at the peak",
        "disk": f"{_gb(plan.disk)} of {_gb(plan.disk_free)} free, and logs: {CHECKPOINTS} checkpoints of "
        f"{_gb(plan.checkpoint)}, the best model; {_gb(plan.clips)} of clips are read",
    }
    if plan.processes > 1:
        rows["device memory"] += ", for each process"
        rows["host memory"] += f", for each of {plan.processes} processes"
        rows["estimate"] = f"for {plan.processes} processes: one was measured, without their exchange of gradients"
    width = max(map(len, rows))
    return "\n".join([f"{output}, planned:", *(f"  {name:{width}}  {value}" for name, value in rows.items())])


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size else "unknown"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
