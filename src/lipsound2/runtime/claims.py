"""A folder that work goes into -> held by one process, or by several of which each does its share of the work.

    .lock              held by the one that does all of the work
    .lock.2-of-8       held by the one that does the second of eight shares
    .lock.gate         held for a moment by whoever begins or ends

A lock ends with its process, however that ends. Where a file system has no locks, all are taken for granted.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from lipsound2.errors import StorageError
from lipsound2.runtime.atomic import storing
from lipsound2.runtime.terminal import warn

LOCK_NAME = ".lock"
_HOLDER_NAME = ".lock-holder"
_GATE_NAME = f"{LOCK_NAME}.gate"


class Share(NamedTuple):
    """Which of how many shares of the work, counted from 1."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@contextmanager
def claim(folder: Path, work: str, wait: bool = False) -> Iterator[None]:
    """Hold a folder alone while the block runs.

    Args:
        folder: Is made if it is not there.
        work: What is done in it, such as `prepare`.
        wait: Whether to wait for another process instead of refusing.

    Raises:
        StorageError: Another process works in the folder, or it cannot be made.
    """
    _make(folder)
    lock = FileLock(folder / LOCK_NAME, timeout=-1 if wait else 0)
    try:
        _acquire(lock, folder / LOCK_NAME)
    except Timeout as error:
        raise _taken(folder, _holder(folder) or work) from error
    except (OSError, NotImplementedError) as error:  # some network file systems know no locks
        warn(f"{folder} cannot be locked ({error}); see that only one {work} at a time works in it")
        yield
        return
    try:
        if busy := shares_at_work(folder):
            raise _taken(folder, f"{work} (share {busy[0]})")
        _note(folder, f"{work} (process {os.getpid()} on {platform.node()})")
        yield
    finally:
        _remove(folder / _HOLDER_NAME)
        _remove(folder / LOCK_NAME)
        lock.release()


@contextmanager
def gate(folder: Path) -> Iterator[None]:
    """Let those that do shares of the work in a folder begin and end one at a time."""
    _make(folder)
    lock = FileLock(folder / _GATE_NAME)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        warn(f"{folder} cannot be locked ({error}); see that each share is done by one process at a time")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claim_share(folder: Path, work: str, share: Share) -> Iterator[None]:
    """Hold a share of the work in a folder while the block runs; to be entered in its `gate`.

    Raises:
        StorageError: Another process does this share, or all of the work, or a share of another number of shares.
    """
    path = folder / f"{LOCK_NAME}.{share.number}-of-{share.of}"
    lock = FileLock(path, timeout=0)
    try:
        _acquire(lock, path)
    except Timeout as error:
        raise _taken(folder, f"{work} (share {share})") from error
    except (OSError, NotImplementedError):
        pass
    try:
        if _held(folder / LOCK_NAME, forget=True):
            raise _taken(folder, _holder(folder) or work)
        if other := next((each for each in shares_at_work(folder) if each.of != share.of), None):
            raise _taken(folder, f"{work} (share {other}, of another number of shares)")
        yield
    finally:
        _remove(path)
        lock.release()


def shares_at_work(folder: Path) -> list[Share]:
    """List the shares that processes are at work on."""
    found = []
    for path in sorted(folder.glob(f"{LOCK_NAME}.*-of-*")):
        number, _, count = path.name.removeprefix(f"{LOCK_NAME}.").partition("-of-")
        if number.isdecimal() and count.isdecimal() and _held(path):
            found.append(Share(int(number), int(count)))
    return found


def forget_shares(folder: Path) -> None:
    """Remove the locks of shares, of which none is left to do."""
    for path in (*folder.glob(f"{LOCK_NAME}.*-of-*"), folder / _GATE_NAME):
        _remove(path)


def can_lock(folder: Path) -> bool:
    """Return whether the folder's file system has locks; to be called in its `gate`."""
    return _held(folder / _GATE_NAME)


def _make(folder: Path) -> None:
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _taken(folder: Path, holder: str) -> StorageError:
    return StorageError(f"another {holder} is working in {folder}", "wait until it is done, or choose another -o")


def _acquire(lock: FileLock, path: Path) -> None:
    """Lock the file that has the name; one that its holder took away meanwhile locks nothing."""
    lock.acquire()
    while not path.exists():
        lock.release()
        lock.acquire()


def _held(path: Path, forget: bool = False) -> bool:
    """Return whether somebody holds a lock; with `forget`, the file of one that nobody holds is removed."""
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    if forget:
        _remove(path)
    lock.release()
    return False


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
