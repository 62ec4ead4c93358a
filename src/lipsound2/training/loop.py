"""A task -> a trained model: the one training loop of the project.

    run/
      config.json            the model's configuration
      best/                  config.json + model.safetensors of the best validation
      checkpoints/step-N/    the state to resume from
      metrics.jsonl          one line a validation
      logs/                  TensorBoard: scalars, pictures, sounds

All randomness of a step comes from (seed, step, rank), so a resumed run is the same as one that
was never stopped.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from lipsound2.config import CONFIG_NAME, TrainConfig, to_json
from lipsound2.data.dataset import EpochBatches
from lipsound2.errors import CheckpointError, LipSoundError, TrainingError
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.terminal import counting_bar, say
from lipsound2.runtime.weights import WEIGHTS_NAME, save_weights
from lipsound2.training.agreement import as_one
from lipsound2.training.checkpoint import TrainingState, load_state, save_state
from lipsound2.training.optimizers import learning_rate, make_optimizer
from lipsound2.training.task import Task, Validation

DIVERGED = 10.0
"""A smoothed loss this many times its lowest value stops the run."""


def fit(task: Task[Any], settings: TrainConfig, run: Path, fabric: lightning_fabric.Fabric) -> float:
    """Train a task's model in the folder `run`, or go on where an earlier call stopped.

    Args:
        task: Model, data, loss and validation.
        settings: How to train.
        run: Folder of the run.
        fabric: Devices and precision; already launched.

    Returns:
        The best validation score.

    Raises:
        TrainingError: The loss is not finite or diverges.
    """
    trainer = _Trainer(task, settings, run, fabric)
    try:
        trainer.resume()
        trainer.train()
    finally:
        trainer.close()
    return trainer.best


class _Trainer:
    def __init__(self, task: Task[Any], settings: TrainConfig, run: Path, fabric: lightning_fabric.Fabric) -> None:
        self.task = task
        self.settings = settings
        self.run = run
        self.fabric = fabric
        optimizer = make_optimizer(task.model.parameters(), settings)
        self.average = copy.deepcopy(task.model).to(fabric.device).requires_grad_(False).eval()
        self.model, self.optimizer = fabric.setup(task.model, optimizer)
        self.batches = EpochBatches(
            len(task.train),  # type: ignore[arg-type]
            settings.batch_size,
            True,
            settings.seed,
            fabric.global_rank,
            fabric.world_size,
        )
        self.step = 0
        self.best = math.inf
        self.smoothed = self.lowest = math.inf
        self.saved_at = time.monotonic()
        self.due = False
        self.writer = SummaryWriter(run / "logs") if fabric.is_global_zero else None

    def resume(self) -> None:
        with as_one(self.fabric):
            state = load_state(self.run / "checkpoints")
        with as_one(self.fabric):
            self._check_step(state.step if state else 0)
            if state is None and self.fabric.is_global_zero:
                for folder in (self.run, self.run / "best"):
                    write_text(folder / CONFIG_NAME, to_json(self.task.config()))
        if state is None:
            return
        self.step, self.best = state.step, state.best
        try:
            self.task.model.load_state_dict(dict(state.weights))
            self.average.load_state_dict(dict(state.average))
            self._check_slots(state.slots)
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": dict(state.slots), "param_groups": groups})
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            folder = self.run / "checkpoints"
            raise CheckpointError(
                f"the newest checkpoint in {folder} is not one of this model: {error}",
                f"delete {folder} to begin anew, or choose another -o",
            ) from error
        self._say(f"resumed {self.run} at step {self.step}")

    def _check_slots(self, slots: Mapping[int, Mapping[str, Tensor]]) -> None:
        """See that what the optimiser kept belongs to this model's parameters.

        Raises:
            ValueError: It does not.
        """
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if slots and (
            set(slots) != set(range(len(parameters))) or len({frozenset(kept) for kept in slots.values()}) > 1
        ):
            raise ValueError(f"it keeps {len(slots)} of {len(parameters)} parameters")
        for number, kept in slots.items():
            for name, value in kept.items():
                if value.numel() != 1 and value.shape != parameters[number].shape:
                    raise ValueError(f"{name} of parameter {number} has the shape {tuple(value.shape)}")

    def _check_step(self, step: int) -> None:
        """See that all processes go on from one step, which they do not where machines do not share the folder."""
        if self.fabric.world_size > 1:
            first = self.fabric.broadcast(step)
            if step != first:
                raise TrainingError(
                    f"process {self.fabric.global_rank} found {self.run} at step {step}, process 0 at step {first}",
                    "all machines of a run need one shared folder",
                )

    def train(self) -> None:
        total = self.settings.epochs * self.batches.batches
        if self.step >= total:
            done = f"all {self.settings.epochs}" if self.step == total else self.step // self.batches.batches
            self._say(f"already finished: {done} epochs are done; raise --epochs or choose another -o")
        with counting_bar() as progress:
            progress.disable = not self.fabric.is_global_zero
            bar = progress.add_task("", total=total, completed=self.step)
            while self.step < total:
                epoch = self.step // self.batches.batches
                for scalars in self._epoch(epoch):
                    progress.update(bar, completed=self.step, description=_line(epoch, self.settings.epochs, scalars))
                if (epoch + 1) % self.settings.validate_every == 0 or self.step == total:
                    self._validate(epoch + 1)
                self._save()

    def close(self) -> None:
        if self.writer:
            self.writer.close()

    def _epoch(self, epoch: int) -> Iterator[dict[str, float]]:
        self.batches.epoch, self.batches.start = epoch, self.step % self.batches.batches
        loader = DataLoader(
            _Told(self.task.train),
            batch_sampler=self.batches,
            collate_fn=partial(_collated, self.task.collate),
            num_workers=self.settings.workers,
        )
        self.model.train()
        for batch in self.fabric.setup_dataloaders(loader, use_distributed_sampler=False):
            yield self._step(batch)
            if self.due:
                self._save()

    def _step(self, batch: Any) -> dict[str, float]:
        seed = int(
            np.random.SeedSequence([self.settings.seed, self.step, self.fabric.global_rank]).generate_state(1)[0]
        )
        torch.manual_seed(seed)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.zero_grad()
        generator = torch.Generator().manual_seed(seed)
        loss, parts = self._loss(batch, generator)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.settings.clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        scalars = {name: value.item() for name, value in parts.items()} | {"loss": loss.item()}
        if self.writer:
            extra = {"gradient norm": float(norm or 0.0), "learning rate": self._learning_rate()}
            for name, value in (scalars | extra).items():
                self.writer.add_scalar(f"train/{name}", value, self.step)
        return scalars

    def _loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch, or end all processes by the error that any of them met.

        Whether to save is settled here too. What each process decided by its own loss, errors or clock would leave
        some of them waiting for others for ever.
        """
        due = time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes
        error = batch if isinstance(batch, LipSoundError) else None
        errors, wanted = self._sums(float(error is not None), float(due and self.fabric.is_global_zero))
        self.due = wanted > 0
        self._end_by(errors, error)
        loss, parts = torch.tensor(0.0), dict[str, Tensor]()
        try:
            loss, parts = self.task.loss(self.model, batch, self.step / self.batches.batches, generator)
        except LipSoundError as raised:
            error = raised
        errors, total = self._sums(float(error is not None), loss.item())
        self._end_by(errors, error)
        self._check(total / self.fabric.world_size)
        return loss, parts

    def _sums(self, *values: float) -> list[float]:
        """Add up numbers over all processes."""
        if self.fabric.world_size == 1:
            return [float(value) for value in values]
        own = torch.tensor(values, dtype=torch.float32, device=self.fabric.device)
        return self.fabric.all_reduce(own, reduce_op="sum").tolist()  # type: ignore[union-attr]

    def _end_by(self, errors: float, error: LipSoundError | None) -> None:
        if errors:
            with as_one(self.fabric):
                if error:
                    raise error

    def _learning_rate(self) -> float:
        return learning_rate(self.settings, self.step, self.settings.epochs * self.batches.batches)

    def _check(self, loss: float) -> None:
        """Stop a run that went wrong; every process does so at once, since all are told one loss."""
        hint = "resume with a lower --lr; the last checkpoint is whole"
        if not math.isfinite(loss):
            self._stop(f"the loss became {loss} at step {self.step}", hint)
        self.smoothed = loss if math.isinf(self.smoothed) else 0.98 * self.smoothed + 0.02 * loss
        self.lowest = min(self.lowest, self.smoothed)
        if self.smoothed > DIVERGED * self.lowest:
            self._stop(f"the loss diverged at step {self.step}: {self.smoothed:.3g} after {self.lowest:.3g}", hint)

    def _stop(self, message: str, hint: str) -> None:
        with as_one(self.fabric):
            raise TrainingError(message, hint)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        current = self.task.model.state_dict()
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name], 1 - decay)
            else:
                mean.copy_(current[name])

    def _validate(self, epoch: int) -> None:
        number = epoch // self.settings.validate_every
        show = self.settings.show_every > 0 and number % self.settings.show_every == 0
        with as_one(self.fabric):
            if self.fabric.is_global_zero:
                with torch.no_grad(), self.fabric.autocast():
                    found = self.task.validate(self.average, show)
                self._log(found, epoch)
                if found.score < self.best:
                    save_weights(self.run / "best" / WEIGHTS_NAME, self.average.state_dict())
                    self.best = found.score

    def _log(self, found: Validation, epoch: int) -> None:
        assert self.writer is not None
        for name, value in found.scalars.items():
            self.writer.add_scalar(f"val/{name}", value, self.step)
        for name, figure in found.figures.items():
            self.writer.add_figure(name, figure, self.step)
        for name, wave in found.sounds.items():
            self.writer.add_audio(name, torch.from_numpy(wave)[None], self.step, found.sample_rate)
        record = {"epoch": epoch, "step": self.step, "score": found.score, **found.scalars}
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._say(f"epoch {epoch}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.scalars.items()))

    def _say(self, message: str) -> None:
        if self.fabric.is_global_zero:
            say(message)

    def _save(self) -> None:
        self.due, self.saved_at = False, time.monotonic()
        with as_one(self.fabric):
            if self.fabric.is_global_zero:
                model: dict[str, Tensor] = self.task.model.state_dict()
                average = self.average.state_dict()
                state = TrainingState(self.step, self.best, model, average, self.optimizer.state_dict()["state"])
                save_state(self.run / "checkpoints", state)


class _Told(Dataset[Any]):
    """Examples, or the error in the place of one, which would lose its hint on the way out of a loading process."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __getitem__(self, place: Any) -> Any:
        try:
            return self.data[place]
        except LipSoundError as error:
            return error


def _collated(collate: Callable[[list[Any]], Any], examples: list[Any]) -> Any:
    return next((one for one in examples if isinstance(one, LipSoundError)), None) or collate(examples)


def _line(epoch: int, epochs: int, scalars: dict[str, float]) -> str:
    return f"epoch {epoch + 1}/{epochs} " + " ".join(f"{name} {value:.3f}" for name, value in scalars.items())
