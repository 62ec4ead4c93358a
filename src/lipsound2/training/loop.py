"""A task -> a trained model: the one training loop of the project.

    run/
      config.json            the model's configuration
      best/                  config.json + model.safetensors with the best validation score
      checkpoints/step-N/    the state to resume from
      metrics.jsonl          one line per validation
      logs/                  TensorBoard: scalars, figures, audio

All randomness of a step comes from (seed, step, rank), so a resumed run equals an uninterrupted
one. A GPU is synchronised only for logging, validation and checkpoints.
"""

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
import torch.distributed
from torch import Tensor

from lipsound2.config import CONFIG_NAME, to_json
from lipsound2.data.dataset import EpochBatches
from lipsound2.errors import CheckpointError, LipSoundError, TrainingError
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.terminal import counting_bar, say, warn
from lipsound2.runtime.weights import WEIGHTS_NAME, save_weights
from lipsound2.training.agreement import as_one
from lipsound2.training.checkpoint import TrainingState, load_state, save_state
from lipsound2.training.config import TrainConfig
from lipsound2.training.divergence import DivergedError, Divergence
from lipsound2.training.interrupts import Interrupts
from lipsound2.training.journal import Journal
from lipsound2.training.loading import load_batches
from lipsound2.training.optimizers import (
    collect_slots,
    learning_rate,
    make_optimizer,
    restore_slots,
    update_average,
)
from lipsound2.training.speed import Stopwatch
from lipsound2.training.strategies import is_sharded, load_whole, own_shard, whole, whole_tensors
from lipsound2.training.task import Task

_LOST = ("gloo", "nccl", "closed by peer", "reset by peer", "broken pipe", "socket", "timed out")
"""What messages of the network between processes have in them."""


def fit(task: Task[Any], settings: TrainConfig, run: Path, fabric: lightning_fabric.Fabric) -> float:
    """Train a task's model in the folder `run`, or resume an earlier call.

    Args:
        task: Model, data, loss and validation.
        settings: Settings of the loop.
        run: Folder of the run.
        fabric: Devices and precision; already launched.

    Returns:
        The best validation score.

    Raises:
        TrainingError: The loss is not finite or diverges, for the second time; or a process was lost.
    """
    trainer = Trainer(task, settings, run, fabric)
    try:
        trainer.resume()
        with trainer.together():
            trainer.train()
    finally:
        trainer.close()
    return trainer.best


class Trainer:
    """State of a training; arguments as in `fit`. Without a folder nothing is written."""

    def __init__(
        self, task: Task[Any], settings: TrainConfig, run: Path | None, fabric: lightning_fabric.Fabric
    ) -> None:
        self.task = task
        self.settings = settings
        self.run = run or Path()
        self.fabric = fabric
        task.model.to(fabric.device)
        self.average = copy.deepcopy(task.model).requires_grad_(False).eval()
        for module in self.average.modules():
            if isinstance(module, torch.nn.RNNBase):
                module.flatten_parameters()  # in one piece, as cuDNN wants them; a copy lies in several
        self.sharded = is_sharded(fabric)
        self._set_up()
        self.batches = EpochBatches(
            len(task.train),  # type: ignore[arg-type]
            settings.batch_size,
            True,
            settings.seed,
            fabric.global_rank,
            fabric.world_size,
            settings.accumulate,
            task.lengths(),
        )
        self.updates = self.batches.batches // settings.accumulate
        self.total = settings.epochs * self.updates
        self.step = 0
        self.best = math.inf
        self.stale = 0
        self.divergence = Divergence()
        self.sums: dict[str, Tensor] = {}
        self.counted = 0
        self.norm: Tensor | None = None
        self.saved_at = time.monotonic()
        self.due = self.changed = self.ending = False
        self.interrupts = Interrupts(self._told)
        self.watch = Stopwatch()
        self.control = torch.distributed.new_group(backend="gloo") if fabric.world_size > 1 else None
        self.journal = Journal(run) if run and fabric.is_global_zero else None

    def _set_up(self) -> None:
        """Let the processes share the model: whole, or in shards, whose optimiser is made of shards."""
        model = self.task.model
        self.model: Any = self.fabric.setup_module(model) if self.sharded else model
        self.parameters = list(model.parameters())
        optimizer = make_optimizer(self.parameters, self.settings)
        if self.sharded:
            self.optimizer: Any = self.fabric.setup_optimizers(optimizer)
        else:
            self.model, self.optimizer = self.fabric.setup(model, optimizer)

    def resume(self) -> None:
        """Resume from the newest checkpoint, if there is one."""
        with as_one(self.fabric):
            state = load_state(self.run / "checkpoints")
        with as_one(self.fabric):
            self._check_step(state.step if state else 0)
            if self.fabric.is_global_zero:
                for path in (self.run / CONFIG_NAME, self.run / "best" / CONFIG_NAME):
                    if state is None or not path.is_file():
                        write_text(path, to_json(self.task.config()))
        if state is None:
            return
        try:
            if self.sharded:
                load_whole(self.task.model, state.weights)
            else:
                self.task.model.load_state_dict(dict(state.weights))
            self.average.load_state_dict(dict(state.average))
            restore_slots(self.optimizer, self.parameters, state.slots)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            folder = self.run / "checkpoints"
            raise CheckpointError(
                f"the newest checkpoint in {folder} is not one of this model: {error}",
                f"delete {folder} to begin anew, or choose another -o",
            ) from error
        self.step, self.best = state.step, state.best
        kept = dict(state.more)
        self.divergence.restore(kept)
        self.stale = kept.get("stale", 0)
        self.task.restore(kept.get("task", {}))
        self._say(f"resumed {self.run} at step {self.step}")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Save a checkpoint and end with one message when another process of the run is lost.

        Raises:
            TrainingError: One was.
        """
        try:
            yield
        except RuntimeError as error:
            if self.fabric.world_size == 1 or not _lost(error):
                raise
            if not self.fabric.is_global_zero:
                raise SystemExit(1) from error  # process 0 reports the reason
            if not self.sharded and self._finite():  # what the lost process held is lost
                save_state(self.run / "checkpoints", self.state())
            raise TrainingError(
                f"another process of the run was lost at step {self.step}",
                f"the same command goes on from there ({str(error).splitlines()[0][:120]})",
            ) from error

    def _check_step(self, step: int) -> None:
        """Check that all processes resume from the same step, as they do on a shared file system."""
        if self.fabric.world_size > 1:
            first = self.fabric.broadcast(step)
            if step != first:
                raise TrainingError(
                    f"process {self.fabric.global_rank} found {self.run} at step {step}, process 0 at step {first}",
                    "all machines of a run need one shared folder",
                )

    def train(self) -> None:
        """Train to the end."""
        if self.step >= self.total:
            done = f"all {self.settings.epochs}" if self.step == self.total else self.step // self.updates
            self._say(f"already finished: {done} epochs are done; raise --epochs or choose another -o")
        with counting_bar() as progress:
            progress.disable = not self.fabric.is_global_zero
            bar = progress.add_task("", total=self.total, completed=self.step)
            while self.step < self.total and not self._stopped():
                try:
                    with self.interrupts:
                        for line in self._go_on():
                            progress.update(bar, completed=self.step, description=line)
                except DivergedError as error:
                    self._take_back(error)
                    progress.update(bar, completed=self.step)

    def close(self) -> None:
        """Finish the logs."""
        if self.journal:
            self.journal.close()

    def _go_on(self) -> Iterator[str]:
        """Train until the end, or until the training data changes and loader processes must restart."""
        batches = self.load()
        self.changed = False
        line = ""
        self.watch.start()
        while self.step < self.total:
            self.step_on(batches)
            if self.step % self.settings.log_every == 0 or self.step == self.total:
                line = self._look()
            yield line
            if self.due:
                self._save()
            if self.ending:
                self.interrupts.act()
                raise TrainingError(f"another process was interrupted at step {self.step}", "the same command goes on")
            epoch, left = divmod(self.step, self.updates)
            every = self.settings.validate_steps or self.settings.validate_every * self.updates
            if left == 0 and self.step < self.total:
                self._learn()
            if self.step % every == 0 or self.step == self.total:
                self._validate(epoch + bool(left))
                self._save()
                self.watch.start()
            if self.changed or self._stopped():
                return

    def load(self) -> Iterator[Any]:
        """Load batches from the current step to the end, in persistent worker processes."""
        self.batches.epoch, left = divmod(self.step, self.updates)
        self.batches.start = left * self.settings.accumulate
        self.batches.epochs = self.settings.epochs
        return load_batches(self.task, self.batches, self.settings.workers, self.fabric.device.type == "cuda")

    def step_on(self, batches: Iterator[Any]) -> None:
        """Take the batches of one update, and do it."""
        with self.watch.waiting():
            taken = [next(batches) for _ in range(self.settings.accumulate)]
        self.update(taken)

    def update(self, loaded: list[Any]) -> None:
        """Update the weights once, from one or several batches."""
        seed = int(
            np.random.SeedSequence([self.settings.seed, self.step, self.fabric.global_rank]).generate_state(1)[0]
        )
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.model.train()
        self.optimizer.zero_grad()
        for number, batch in enumerate(loaded):
            last = number == len(loaded) - 1
            with nullcontext() if last else self.fabric.no_backward_sync(self.model):
                loss, parts = self._loss(batch, generator)
                self.fabric.backward(loss / len(loaded))
            self._count(parts | {"loss": loss})
        self.apply()

    def apply(self) -> None:
        """Update the weights and their EMA from the accumulated gradients."""
        self.norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.settings.clip, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.step += 1
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        update_average(self.average, self.task.model, decay)

    def _loss(self, loaded: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch, or end all processes with an error of any of them.

        Processes also agree here on saving a checkpoint. Decisions by their own errors or clocks could leave some of
        them waiting for others forever.
        """
        due = time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes
        error = loaded if isinstance(loaded, LipSoundError) else None
        loss, parts = torch.tensor(0.0), dict[str, Tensor]()
        try:
            if error is None:
                batch = self.task.ready(loaded, self.fabric.device)
                self.watch.count(self.task.seconds(batch))
                loss, parts = self.task.loss(self.model, batch, self.step / self.updates, generator)
        except LipSoundError as raised:
            error = raised
        caught = self.interrupts.caught is not None
        own = float(error is not None), float(due and self.fabric.is_global_zero), float(caught)
        errors, wanted, ending = self._sums(*own)
        self.due = self.due or wanted > 0 or ending > 0
        self.ending = self.ending or ending > 0
        self._end_by(errors, error)
        return loss, parts

    def _sums(self, *values: float) -> list[float]:
        """Sum numbers over all processes, on the CPU."""
        if self.control is None:
            return [float(value) for value in values]
        own = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(own, group=self.control)
        return own.tolist()

    def _end_by(self, errors: float, error: LipSoundError | None) -> None:
        if errors:
            with as_one(self.fabric):
                if error:
                    raise error

    def _learning_rate(self) -> float:
        return learning_rate(self.settings, self.step, self.total) * 0.5**self.divergence.retries

    def _count(self, parts: Mapping[str, Tensor]) -> None:
        for name, value in parts.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counted += 1

    def _look(self) -> str:
        """Synchronise with the device, log the mean losses since the last call, and check them."""
        if not self.counted:
            return ""
        names = list(self.sums)
        norm = torch.as_tensor(0.0 if self.norm is None else whole(self.norm)).to(self.fabric.device)
        values = torch.stack([*(self.sums[name] for name in names), norm]).tolist()
        means = self._sums(*(value / self.counted for value in values))
        means = [mean / self.fabric.world_size for mean in means]
        scalars = dict(zip([*names, "gradient norm"], means, strict=True))
        updates = self.counted // self.settings.accumulate
        self.sums, self.counted = {}, 0
        if self.journal:
            self.journal.losses(scalars | {"learning rate": self._learning_rate()}, self.step)
        self.divergence.check(scalars["loss"], updates, self.step)  # all processes do, since they share the loss
        self.watch.look(updates)
        epoch = min(self.step // self.updates + 1, self.settings.epochs)
        shown = " ".join(f"{name} {scalars[name]:.3f}" for name in names)
        return f"epoch {epoch}/{self.settings.epochs} {shown} {self.watch.short()}"

    def _take_back(self, error: DivergedError) -> None:
        """Restore the last checkpoint with half the learning rate, once.

        Raises:
            TrainingError: There is no checkpoint, or this is the second time.
        """
        with as_one(self.fabric):
            if self.divergence.retries or not any((self.run / "checkpoints").glob("step-*")):
                hint = "resume with a lower --lr; the last checkpoint is good"
                raise TrainingError(error.message, hint if self.divergence.retries else "begin anew with a lower --lr")
        if self.fabric.is_global_zero:
            warn(f"{error.message}; going back to the last checkpoint with half the learning rate")
        self.sums, self.counted = {}, 0
        self.optimizer.zero_grad()
        self.resume()
        self.divergence.begin_anew()

    def _learn(self) -> None:
        with as_one(self.fabric), torch.no_grad():
            self.changed = self.task.learn(self.average, self.step / self.total)

    def _stopped(self) -> bool:
        """Return whether early stopping ends the training."""
        return 0 < self.settings.patience <= self.stale

    def _validate(self, epoch: int) -> None:
        self._look()
        number = self.step // (self.settings.validate_steps or self.settings.validate_every * self.updates)
        show = self.settings.show_every > 0 and (number == 1 or number % self.settings.show_every == 0)
        with as_one(self.fabric):
            with torch.no_grad():
                found = self.task.validate(self.average, show)
            self.stale = 0 if found.score < self.best else self.stale + 1
            if self.journal:
                self.journal.validation(found, epoch, self.step, self.watch.facts())
                if found.score < self.best:
                    save_weights(self.run / "best" / WEIGHTS_NAME, self.average.state_dict())
            self.best = min(self.best, found.score)
        scores = ", ".join(f"{name} {value:.4g}" for name, value in found.scalars.items())
        self._say(f"epoch {epoch}: {scores}; {self.watch}")
        if self._stopped():
            self._say(f"no improvement for {self.stale} validations: training ends at step {self.step}")

    def _say(self, message: str) -> None:
        if self.fabric.is_global_zero:
            say(message)

    def _told(self, name: str) -> None:
        self._say(f"{name}: training ends with a checkpoint after this step; once more ends it at once")

    def _finite(self) -> bool:
        own = [own_shard(parameter.detach()) for parameter in self.parameters]
        return bool(torch.stack([part.isfinite().all() for part in own]).all())

    def state(self) -> TrainingState:
        """Return the state to resume from; of a model in shards all processes must ask for it."""
        more: dict[str, Any] = {**self.divergence.state(), "stale": self.stale, "task": self.task.state()}
        weights, average = whole_tensors(self.task.model.state_dict()), self.average.state_dict()
        slots = collect_slots(self.optimizer, self.parameters)
        return TrainingState(self.step, self.best, weights, average, slots, more)

    def _save(self) -> None:
        self._look()
        if self._sums(float(not self._finite()))[0]:
            raise DivergedError(f"the weights are not finite at step {self.step}")
        self.due, self.saved_at = False, time.monotonic()
        state = self.state() if self.sharded or self.fabric.is_global_zero else None
        with as_one(self.fabric):
            if self.fabric.is_global_zero and state:
                save_state(self.run / "checkpoints", state)


def _lost(error: RuntimeError) -> bool:
    """Return whether an error says that another process does not answer any more."""
    words = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or any(sign in words for sign in _LOST)
