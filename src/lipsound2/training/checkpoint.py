"""The state of a training run <-> a folder of JSON and safetensors; nothing is pickled."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lipsound2.atomic import atomic_path, write_text
from lipsound2.errors import CheckpointError
from lipsound2.weights import WEIGHTS_NAME, load_weights, save_weights

STATE_NAME = "training.safetensors"
PROGRESS_NAME = "training.json"
_STEP = re.compile(r"step-(\d{9})")


class TrainingState(NamedTuple):
    """All that a resumed run needs beyond the configuration.

    Attributes:
        step: Optimiser steps done.
        best: Best validation score so far, lower is better.
        weights: Weights as the optimiser sees them.
        average: Running mean of the weights.
        optimizer: State dict of the optimiser.
    """

    step: int
    best: float
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]


def save_state(folder: Path, state: TrainingState, keep: int = 2) -> None:
    """Write a checkpoint below `folder` and remove all but the newest `keep`."""
    tensors = {f"weights/{name}": tensor for name, tensor in state.weights.items()}
    slots = state.optimizer["state"]
    for slot, values in slots.items():
        tensors |= {f"optimizer/{slot}/{name}": torch.as_tensor(value) for name, value in values.items()}
    progress = {"step": state.step, "best": state.best, "groups": state.optimizer["param_groups"]}
    with atomic_path(folder / f"step-{state.step:09d}") as temporary:
        temporary.mkdir()
        save_weights(temporary / WEIGHTS_NAME, state.average)
        save_weights(temporary / STATE_NAME, tensors)
        write_text(temporary / PROGRESS_NAME, json.dumps(progress) + "\n")
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)


def load_state(folder: Path) -> TrainingState | None:
    """Read the newest checkpoint below `folder`, or None if there is none.

    Raises:
        CheckpointError: It is damaged.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        progress = json.loads((newest / PROGRESS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{newest} is damaged: {error}", f"delete {newest} to resume from the one before"
        ) from error
    slots: dict[int, dict[str, Tensor]] = {}
    weights = {}
    for name, tensor in load_weights(newest / STATE_NAME).items():
        kind, rest = name.split("/", 1)
        if kind == "weights":
            weights[rest] = tensor
        else:
            slot, value = rest.split("/", 1)
            slots.setdefault(int(slot), {})[value] = tensor
    optimizer = {"state": slots, "param_groups": progress["groups"]}
    return TrainingState(progress["step"], progress["best"], weights, load_weights(newest / WEIGHTS_NAME), optimizer)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if _STEP.fullmatch(path.name))
