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
        _sync(temporary, *(path for path in temporary.rglob("*") if temporary.is_dir()))
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


def _sync(*paths: Path) -> None:
    """Flush files and folder entries to the disk, so that a power cut cannot leave them empty."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()
