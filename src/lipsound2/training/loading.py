"""Examples of a task -> batches, in this process or in others.

Where clips lie in an object store, loader processes start anew: one that is forked while fsspec's thread holds a lock
may wait for it for ever.
"""

import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from lipsound2.errors import LipSoundError
from lipsound2.runtime import remote
from lipsound2.training.task import Task


def load_batches(task: Task[Any], order: Sampler[Any], workers: int, pinned: bool) -> Iterator[Any]:
    """Load batches of training examples; a batch with an example that cannot be read is its error.

    Args:
        task: The task.
        order: Lists the places of each batch.
        workers: Number of processes; 0 loads in this one.
        pinned: Whether to put batches into page-locked memory.
    """
    anew = workers > 0 and remote.in_use()
    loader = DataLoader(
        _Guarded(task.train),
        batch_sampler=order,
        collate_fn=partial(_collated, task.collate),
        num_workers=workers,
        pin_memory=pinned and workers > 0,
        worker_init_fn=_leave_interrupts,
        multiprocessing_context="spawn" if anew else None,
    )
    return iter(loader)


class _Guarded(Dataset[Any]):
    """Examples, or the error in place of one: raised in a loader process it would lose its hint."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __getitem__(self, place: Any) -> Any:
        try:
            return self.data[place]
        except LipSoundError as error:
            return error


def _collated(collate: Callable[[list[Any]], Any], examples: list[Any]) -> Any:
    return next((one for one in examples if isinstance(one, LipSoundError)), None) or collate(examples)


def _leave_interrupts(_: int) -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
