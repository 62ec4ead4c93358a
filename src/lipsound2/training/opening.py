"""A run that begins -> what a user is told of it, and the history of its clips that travels with the model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lipsound2.data.shards import Entry
from lipsound2.packs import find_pack
from lipsound2.packs.history import History, read_history, write_history
from lipsound2.runtime.names import is_folder
from lipsound2.runtime.terminal import detail, say, warn
from lipsound2.training.task import Task

FEW_MINUTES = 5.0
"""Less training material than this is said to be little."""
FEW_CLIPS = 50
"""The same where the length of clips is not known."""


def describe(task: Task[Any], train: Sequence[Entry], val: Sequence[Entry], device: torch.device) -> None:
    """Say on what and with what a model is trained, how large it is and what its scores mean."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    size = sum(parameter.numel() for parameter in task.model.parameters())
    say(
        f"training on {name}: {_amount(train)}, validation {_amount(val)}; {size / 1e6:.1f} M parameters in "
        f"{type(task.model).__name__}"
    )
    if task.legend:
        say(task.legend)
    minutes = _minutes(train)
    if len(train) < FEW_CLIPS if minutes is None else minutes < FEW_MINUTES:
        warn(f"{_amount(train)} to train on are little: a voice takes about half an hour, fine-tuning a few minutes")


def keep_history(run: Path, start: Path | str | None, own: History) -> None:
    """Write the history of a run: that of the model that it starts from, and its own clips."""
    before = history_before(start)
    again = [
        seen for seen in own.clips.values() if seen.split == "val" and before.split(seen.clip, seen.audio) == "train"
    ]
    if again:
        warn(f"{start} was trained on {len(again)} of {own.count('val')} validation clips: their scores are too good")
    write_history(run, before | own)
    detail(f"{len(own)} clips of this run, {len(before)} of its start")


def history_before(start: Path | str | None) -> History:
    """Return the history of the model that a run starts from; it is empty without one."""
    if start is None:
        return History()
    return read_history(Path(start) if is_folder(start) else find_pack(start).folder)


def _amount(entries: Sequence[Entry]) -> str:
    minutes = _minutes(entries)
    count = "1 clip" if len(entries) == 1 else f"{len(entries)} clips"
    return count if minutes is None else f"{count} ({minutes:.1f} minutes)"


def _minutes(entries: Sequence[Entry]) -> float | None:
    """Return the length of clips, if it is known of all."""
    seconds = 0.0
    for entry in entries:
        frames, fps = entry.meta.get("frames"), entry.meta.get("fps")
        if not isinstance(frames, int) or not isinstance(fps, int):
            return None
        seconds += frames / fps
    return seconds / 60
