"""The state of a training run <-> a folder of JSON and safetensors; nothing is pickled."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lipsound2.errors import CheckpointError, LipSoundError, guard
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.runtime.terminal import warn
from lipsound2.runtime.weights import WEIGHTS_NAME, load_weights, save_weights

STATE_NAME = "training.safetensors"
PROGRESS_NAME = "training.json"
_STEP = re.compile(r"step-(\d{9})")


class TrainingState(NamedTuple):
    """State that a resumed run needs beyond the configuration.

    Attributes:
        step: Number of optimiser steps done.
        best: Best validation score so far, lower is better.
        weights: Weights that the optimiser updates.
        average: EMA of the weights.
        slots: State of the optimiser for each parameter, by its number.
        more: Further state of the loop and the task, as JSON.
    """

    step: int
    best: float
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    slots: Mapping[int, Mapping[str, Tensor]]
    more: Mapping[str, Any] = {}


def save_state(folder: Path, state: TrainingState, keep: int = 2) -> None:
    """Write a checkpoint below `folder` and remove all but the newest `keep`; those of later steps are damaged."""
    tensors = {f"weights/{name}": tensor for name, tensor in state.weights.items()}
    for slot, values in state.slots.items():
        tensors |= {f"optimizer/{slot}/{name}": torch.as_tensor(value) for name, value in values.items()}
    progress = {"step": state.step, "best": state.best, "more": dict(state.more)}
    with atomic_path(folder / f"step-{state.step:09d}") as temporary:
        temporary.mkdir()
        save_weights(temporary / WEIGHTS_NAME, state.average)
        save_weights(temporary / STATE_NAME, tensors)
        write_text(temporary / PROGRESS_NAME, json.dumps(progress) + "\n")
    ours = folder / f"step-{state.step:09d}"
    earlier = [path for path in _checkpoints(folder) if path <= ours]
    for old in {*_checkpoints(folder)} - {*earlier[-keep:]}:
        shutil.rmtree(old)


def load_state(folder: Path) -> TrainingState | None:
    """Read the newest undamaged checkpoint below `folder`, or None if there is none at all.

    Raises:
        CheckpointError: There are some, but all are damaged.
    """
    found = _checkpoints(folder)
    damage: LipSoundError | None = None
    for path in reversed(found):
        try:
            with guard(path):
                state = _read(path)
        except LipSoundError as error:
            damage = damage or error
            continue
        if damage:
            warn(f"{found[-1]} is damaged ({damage.message}); resuming from the one before, {path.name}")
        return state
    if damage:
        raise CheckpointError(
            f"all checkpoints in {folder} are damaged: {damage.message}",
            f"delete {folder} to begin anew, or take its best model with: finetune --from {folder.parent}",
        )
    return None


def _read(path: Path) -> TrainingState:
    try:
        progress = json.loads((path / PROGRESS_NAME).read_text(encoding="utf-8"))
        step, best, more = progress["step"], progress["best"], progress.get("more", {})
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / PROGRESS_NAME} is damaged") from error
    if type(step) is not int or step < 0 or type(best) not in (int, float) or not isinstance(more, dict):
        raise CheckpointError(f"{path / PROGRESS_NAME} is damaged: step or best is invalid")
    slots: dict[int, dict[str, Tensor]] = {}
    weights = {}
    for name, tensor in load_weights(path / STATE_NAME).items():
        kind, _, rest = name.partition("/")
        slot, _, value = rest.partition("/")
        if kind == "weights":
            weights[rest] = tensor
        elif slot.isdecimal():
            slots.setdefault(int(slot), {})[value] = tensor
        else:
            raise CheckpointError(f"{path / STATE_NAME} is no training state: it holds {name}")
    return TrainingState(step, best, weights, load_weights(path / WEIGHTS_NAME), slots, more)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if _STEP.fullmatch(path.name))
