"""A folder that work goes into -> held for one process at a time, wherever its file system allows that."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lipsound2.errors import StorageError
from lipsound2.runtime.atomic import storing
from lipsound2.runtime.terminal import warn

LOCK_NAME = ".lock"
_HOLDER_NAME = ".lock-holder"


@contextmanager
def claim(folder: Path, work: str, wait: bool = False) -> Iterator[None]:
    """Hold a folder while the block runs; the system lets go of it when a process ends, however it ends.

    Args:
        folder: Is made if it is not there.
        work: What is done in it, such as `prepare`.
        wait: Whether to wait for another process instead of refusing.

    Raises:
        StorageError: Another process works in the folder, or it cannot be made.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_NAME, timeout=-1 if wait else 0)
    try:
        _acquire(lock, folder)
    except Timeout as error:
        holder = _holder(folder)
        raise StorageError(
            f"another {holder or work} is working in {folder}", "wait until it is done, or choose another -o"
        ) from error
    except (OSError, NotImplementedError) as error:  # some network file systems know no locks
        warn(f"{folder} cannot be locked ({error}); see that only one {work} at a time works in it")
        yield
        return
    try:
        _note(folder, f"{work} (process {os.getpid()} on {platform.node()})")
        yield
    finally:
        _remove(folder / _HOLDER_NAME)
        _remove(folder / LOCK_NAME)
        lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    """Lock the file that has the name; one that its holder took away meanwhile locks nothing."""
    lock.acquire()
    while not (folder / LOCK_NAME).exists():
        lock.release()
        lock.acquire()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _note(folder: Path, holder: str) -> None:
    with suppress(OSError):
        (folder / _HOLDER_NAME).write_text(holder, encoding="utf-8")


def _holder(folder: Path) -> str:
    try:
        return (folder / _HOLDER_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
