"""A zip archive -> its files below a folder, none of them outside of it."""

import shutil
import stat
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

from lipsound2.errors import DataError, StorageError, guard
from lipsound2.runtime.atomic import storing
from lipsound2.runtime.foreign import describe

_LEFT_OUT = ("__MACOSX", ".DS_Store", "Thumbs.db")
"""What programs put into archives beside what is meant to be in them."""


def unpack(archive: Path, folder: Path, scratch: Path) -> int:
    """Unpack a zip archive below a folder; files appear whole, and replace older ones.

    An archive whose files do not lie in one folder gets a folder of its name.

    Args:
        archive: The archive.
        folder: Where its files go.
        scratch: A folder on the same file system for files that are not whole yet; it is removed.

    Returns:
        The number of files.

    Raises:
        DataError: It is damaged, or holds what must not be unpacked.
        StorageError: There is no room for it, or it cannot be written.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    with guard(archive), storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(archive) as opened:
                places = _places(archive, opened)
                _make_room(archive, folder, places)
                for info, place in places.items():
                    target = scratch / place
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(info) as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise DataError(f"{archive} is no whole zip archive: it {describe(archive)} ({error})") from error
        for place in places.values():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (scratch / place).replace(folder / place)
    shutil.rmtree(scratch, ignore_errors=True)
    return len(places)


def _places(archive: Path, opened: zipfile.ZipFile) -> dict[zipfile.ZipInfo, Path]:
    """Return where each file goes, relative to the folder."""
    infos = [info for info in opened.infolist() if not info.is_dir() and not _is_left_out(info)]
    for info in infos:
        _check(archive, info)
    twice = [name for name, count in Counter(info.filename for info in infos).items() if count > 1]
    if twice:
        raise DataError(f"{archive} holds {twice[0]} twice")
    tops = {PurePosixPath(info.filename).parts[0] for info in infos}
    own = len(tops) == 1 and all("/" in info.filename for info in infos)
    return {info: Path(*([] if own else [archive.stem]), *PurePosixPath(info.filename).parts) for info in infos}


def _is_left_out(info: zipfile.ZipInfo) -> bool:
    return any(part in _LEFT_OUT for part in PurePosixPath(info.filename).parts)


def _check(archive: Path, info: zipfile.ZipInfo) -> None:
    """Refuse what would land elsewhere, and what is no plain file."""
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or not path.parts or set(info.filename) & set("\\:\0"):
        raise DataError(f"{archive} holds a file that would lie outside: {info.filename!r}", "do not unpack it")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise DataError(f"{archive} holds {info.filename!r}, which is no plain file", "do not unpack it")
    if info.flag_bits & 1:
        raise DataError(f"{archive} is encrypted")


def _make_room(archive: Path, folder: Path, places: dict[zipfile.ZipInfo, Path]) -> None:
    needed = sum(info.file_size for info in places)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{archive} needs {needed / 1e9:.1f} GB unpacked, {folder} has {free / 1e9:.1f} GB free",
            "free some space or choose another folder with -o",
        )
