"""A path to write -> a file or folder that appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lipsound2.errors import StorageError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target` that takes its place when the block succeeds.

    The block may create a file or a folder. On any error the temporary is removed and an older
    `target` stays as it was.

    Raises:
        StorageError: The file system refused (disk full, no permission, ...).
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        if target.is_dir() and temporary.is_dir():
            _swap_folder(temporary, target)
        else:
            temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write {target}: {reason}", "free some space or choose another folder with -o"
        ) from error
    finally:
        _remove(temporary)


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _swap_folder(temporary: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.replace(old)
    temporary.replace(target)
    shutil.rmtree(old)


def _sync(path: Path) -> None:
    """Flush a file, or every file of a folder, to the disk, so that a power cut cannot leave it empty."""
    files = [path, *(p for p in path.iterdir() if p.is_file())] if path.is_dir() else [path]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()
