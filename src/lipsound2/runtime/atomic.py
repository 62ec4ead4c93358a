"""A path to write -> a file or folder that appears whole or not at all."""

import errno
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from pathlib import Path

from lipsound2.errors import StorageError

PART_SUFFIX = ".part"
"""How the names of files end that are still being written."""
_OLD = ".old"
_DAY = 86_400.0
_LOST = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})
"""What a flush answers when data could not be stored; any other answer means that it cannot flush at all."""
_HINTS = {
    errno.ENOSPC: "free some space or choose another folder with -o",
    errno.EDQUOT: "free some space or choose another folder with -o",
    errno.EACCES: "you may not write there; choose another folder with -o",
    errno.EPERM: "you may not write there; choose another folder with -o",
    errno.EROFS: "that file system is read-only; choose another folder with -o",
    errno.ENAMETOOLONG: "give the input a shorter name, or choose another folder with -o",
    errno.ENOTDIR: "a file is in the way; choose another folder with -o",
    errno.EEXIST: "a file is in the way; choose another folder with -o",
    errno.EISDIR: "a folder is in the way; choose another folder with -o",
    errno.EINVAL: "the file system does not take this name; rename the input or choose another folder with -o",
}


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target` that takes its place when the block succeeds.

    The block may create a file or a folder. On any error the temporary is removed and an older
    `target` stays as it was. The temporary's name is short, so that every name that fits can be written.

    Raises:
        StorageError: The file system refused (disk full, no permission, ...).
    """
    temporary = _sibling(target, PART_SUFFIX)
    with storing(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary, *(path for path in temporary.rglob("*") if temporary.is_dir()))
            if target.is_dir() and temporary.is_dir():
                _swap_folder(temporary, target)
            else:
                temporary.replace(target)
            _sync(target.parent)
        finally:
            _remove(temporary)


@contextmanager
def storing(target: Path) -> Iterator[None]:
    """Turn what the file system refuses while `target` is written into a `StorageError` that says why.

    Raises:
        StorageError: In the place of any `OSError`.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "choose another folder with -o")
        raise StorageError(f"cannot write {target}: {reason}", hint) from error


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8 with line feeds, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def sweep(folder: Path, below: bool = False) -> None:
    """Remove what processes that were killed left half-written in a folder; work under way is not touched.

    Args:
        folder: The folder.
        below: Whether to look in all folders below it too.
    """
    for path in list((folder.rglob if below else folder.glob)(f".*{PART_SUFFIX}")):
        with suppress(OSError, ValueError):
            _, host, process = path.name.removesuffix(PART_SUFFIX).removesuffix(_OLD).rsplit(".", 2)
            if path.stat().st_mtime < time.time() - _DAY or (host == _host() and not _lives(int(process))):
                _remove(path)


def _sibling(target: Path, suffix: str) -> Path:
    digest = sha1(os.fsencode(target.name)).hexdigest()[:12]
    return target.with_name(f".{digest}.{_host()}.{os.getpid()}{suffix}")


def _host() -> str:
    return sha1(platform.node().encode()).hexdigest()[:6]


def _lives(process: int) -> bool:
    if os.name == "nt":
        return True  # signal 0 would end it there; what is left goes after a day
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _swap_folder(temporary: Path, target: Path) -> None:
    old = _sibling(target, f"{_OLD}{PART_SUFFIX}")
    target.replace(old)
    temporary.replace(target)
    shutil.rmtree(old)


def _sync(*paths: Path) -> None:
    """Flush files and folder entries to the disk, so that a power cut cannot leave them empty.

    Windows flushes only what is open for writing and no folders; some network file systems flush no folders.
    """
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _LOST:
                raise


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()
