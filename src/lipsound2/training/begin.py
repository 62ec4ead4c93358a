"""A run's folder, settings and data -> a folder locked for this run, which resumes only with the same.

run/
recipe.json     the settings
begun.json      the data, the starting model and the number of processes, by digests
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import lightning_fabric
from torch import Tensor, nn

from lipsound2.config import read_config, to_json
from lipsound2.data.shards import Entry
from lipsound2.errors import ConfigError
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.claims import claim
from lipsound2.runtime.plans import differences, read_plan
from lipsound2.training.agreement import as_one
from lipsound2.training.config import TrainConfig

RECIPE_NAME = "recipe.json"
BEGUN_NAME = "begun.json"
FREE = (
    *("epochs", "learning_rate", "precision", "strategy"),
    *("workers", "cache_gb", "log_every", "validate_every", "validate_steps", "patience", "show_every"),
    "checkpoint_minutes",
)
"""Settings that may change when a run is resumed: duration, speed, precision, and what does not affect the weights."""
FREE_OF_MEL = ("on_device", "graphs", "recompute")
"""The same for a mel model's recipe."""
_HINT = "use the same to resume, or another -o"


@dataclass(frozen=True)
class Begun:
    """What a run was begun with, apart from its settings.

    Attributes:
        train: Digest of the training clips and their order.
        train_clips: Number of training clips.
        val: The same of the validation clips.
        val_clips: Number of validation clips.
        start: Digest of the model that it starts from, or empty.
        generated: Digest of the generated mels, or empty; files of older versions have one of another kind, `mels`.
        processes: Number of processes.
    """

    train: str
    train_clips: int
    val: str
    val_clips: int
    start: str
    generated: str
    processes: int


def begun_with(
    train: Sequence[Entry],
    val: Sequence[Entry],
    start: nn.Module | None,
    fabric: lightning_fabric.Fabric,
    generated: str | None = None,
) -> Begun:
    """Return digests of the data and the starting model of a run; takes seconds for a million clips."""
    weights = _tensors(start.state_dict() if start else {})
    return Begun(_clips(train), len(train), _clips(val), len(val), weights, generated or "", fabric.world_size)


@contextmanager
def beginning(run: Path, recipe: Any, begun: Begun, fabric: lightning_fabric.Fabric) -> Iterator[None]:
    """Lock the folder of a run during the block, and check that a resumed run is still the same.

    Args:
        run: Folder of the run.
        recipe: A dataclass with a `TrainConfig` named `train`.
        begun: The other things that the run depends on.
        fabric: Devices and precision; already launched.

    Raises:
        ConfigError: The run was begun differently; the message says how.
        StorageError: Another process trains in the folder.
    """
    with ExitStack() as stack:
        with as_one(fabric):
            if fabric.is_global_zero:
                stack.enter_context(claim(run, "training"))
                _keep(run, recipe, begun)
        yield


def _keep(run: Path, recipe: Any, begun: Begun) -> None:
    path = run / RECIPE_NAME
    if path.exists():
        _check_recipe(run, read_config(path, type(recipe)), recipe)
        _check_begun(run, read_plan(run / BEGUN_NAME), begun)
    write_text(path, to_json(recipe))
    write_text(run / BEGUN_NAME, to_json(begun))


def _check_recipe(run: Path, old: Any, recipe: Any) -> None:
    train: TrainConfig = replace(recipe.train, **{name: getattr(old.train, name) for name in FREE})
    kept = replace(recipe, train=train)
    free = {name: getattr(old, name) for name in FREE_OF_MEL if hasattr(recipe, name)}
    kept = replace(kept, **free)
    others = differences(old, kept)
    if others:
        raise ConfigError(f"{run} was begun with other settings: {'; '.join(others)}", _HINT)


def _check_begun(run: Path, old: dict[str, Any], begun: Begun) -> None:
    """Compare with the beginning of the run, as far as that is known."""
    now = json.loads(to_json(begun))
    if bool(old.get("mels")) == bool(begun.generated):
        old = {"generated": begun.generated, **old}
    elif "mels" in old:
        old = {"generated": old["mels"], **old}
    same = {name for name, value in now.items() if old.get(name, value) == value}
    others = []
    for split, title in (("train", "training"), ("val", "validation")):
        if split not in same:
            counts = old.get(f"{split}_clips"), now[f"{split}_clips"]
            detail = f" ({counts[0]} clips, not {counts[1]})" if counts[0] != counts[1] else ""
            others.append(f"other {title} data{detail}")
    if "start" not in same:
        others.append("another model to start from")
    if "generated" not in same:
        others.append("other generated mels")
    if "processes" not in same:
        others.append(f"{old['processes']} processes, not {now['processes']}".replace("1 processes", "1 process"))
    if others:
        more = "train" not in same or "val" not in same
        hint = f"{_HINT}; to train on with other clips: --from {run}, with another -o" if more else _HINT
        raise ConfigError(f"{run} was begun with {', with '.join(others)}", hint)


def _clips(entries: Sequence[Entry]) -> str:
    digest = sha256()
    for entry in entries:
        sizes = sorted((suffix, size) for suffix, (_, size) in entry.members.items())
        digest.update(f"{entry.key}\t{sizes}\t{entry.meta.get('transcript')}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _tensors(tensors: Mapping[str, Tensor]) -> str:
    if not tensors:
        return ""
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
