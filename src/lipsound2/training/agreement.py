"""Errors of one process -> all processes of a run end, and process 0 reports the reason."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning_fabric
import torch.distributed

from lipsound2.errors import LipSoundError


@contextmanager
def as_one(fabric: lightning_fabric.Fabric) -> Iterator[None]:
    """Synchronise all processes at the end of a block; an error in any of them ends them all.

    Raises:
        LipSoundError: In process 0, as it was raised in the first process that met one.
        SystemExit: In all others, which end silently.
    """
    error = None
    try:
        yield
    except LipSoundError as raised:
        if fabric.world_size == 1:
            raise
        error = raised
    if fabric.world_size > 1:
        _share(fabric, error)


def _share(fabric: lightning_fabric.Fabric, error: LipSoundError | None) -> None:
    found: list[LipSoundError | None] = [None] * fabric.world_size
    torch.distributed.all_gather_object(found, error)
    first = next((one for one in found if one is not None), None)
    if first is not None:
        if fabric.is_global_zero:
            raise error or first
        raise SystemExit(0)  # process 0 returns the exit status of the run
