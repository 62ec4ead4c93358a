"""A URL of an object store, such as s3://bucket/folder -> files that are listed, read, fetched and stored, by fsspec.

Commands take URLs where they take folders. A `Path` made of one has a single slash, `s3:/bucket/folder`, which no
folder of a machine has behind a word and a colon; that is how it is told from one.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from lipsound2.errors import LipSoundError, MissingExtraError, StorageError, guard
from lipsound2.runtime.atomic import atomic_path, storing
from lipsound2.runtime.download import cache_folder

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=[^/])")
LARGEST = 16_000_000
"""Bytes up to which a file that is no video and no sound is fetched to look for clips."""


def is_remote(path: Path | str) -> bool:
    """Return whether a path was made of a URL."""
    return _SCHEME.match(Path(path).as_posix()) is not None


def url_of(path: Path | str) -> str:
    """Return the URL that a path was made of."""
    return _SCHEME.sub(r"\1://", Path(path).as_posix(), count=1)


def in_use() -> bool:
    """Return whether this process has a thread that speaks with an object store, which no forked process has."""
    asyn = sys.modules.get("fsspec.asyn")
    return asyn is not None and asyn.iothread[0] is not None


def exists(path: Path) -> bool:
    """Return whether there is a file, here or in an object store."""
    if not is_remote(path):
        return path.is_file()
    with _speaking(path) as (system, name):
        return bool(system.isfile(name))


def read(path: Path, start: int = 0, size: int | None = None) -> bytes:
    """Read a file of an object store, or so many bytes of it.

    Raises:
        MediaError: It is not there or cannot be read.
    """
    with _speaking(path) as (system, name):
        part = {} if size is None else {"start": start, "end": start + size}  # an empty file has no range
        return bytes(system.cat_file(name, **part))


def sizes(folder: Path) -> dict[str, int]:
    """List the files below a folder of an object store, by their paths in it, with their sizes."""
    with _speaking(folder) as (system, name):
        system.invalidate_cache()
        found = system.find(name, detail=True)
        return {path.removeprefix(name).lstrip("/"): int(info["size"]) for path, info in found.items()}


def fetch(path: Path, target: Path) -> None:
    """Fetch a file of an object store, whole or not at all."""
    with _speaking(path) as (system, name), atomic_path(target) as temporary:
        system.get_file(name, str(temporary))


def fetch_all(folder: Path, names: Iterable[str], target: Path) -> None:
    """Fetch files of a folder of an object store, many at once."""
    chosen = sorted(names)
    for name in chosen:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
    with _speaking(folder) as (system, root):
        if chosen:
            system.get([f"{root}/{name}" for name in chosen], [str(target / name) for name in chosen])


def store(source: Path, path: Path) -> None:
    """Store a file, which appears whole or not at all.

    Raises:
        StorageError: It cannot be stored.
    """
    try:
        with _speaking(path) as (system, name):
            system.put_file(str(source), name)
    except LipSoundError as error:
        raise StorageError(f"cannot write {url_of(path)}: {error.message}", error.hint) from error


def remove(paths: Iterable[Path]) -> None:
    """Remove files of an object store."""
    for path in paths:
        with _speaking(path) as (system, name):
            system.rm_file(name)


def mirror_folder(url: Path) -> Path:
    """Return the folder of this machine for what is at work on a URL; it has the same name."""
    return cache_folder() / "remote" / sha256(url_of(url).encode()).hexdigest()[:16] / url.name


class Mirror(NamedTuple):
    """A folder of an object store, and one of this machine that looks like it.

    Attributes:
        url: The folder of the object store.
        folder: Holds its small files, and empty files of the same name and size for videos and sounds.
    """

    url: Path
    folder: Path

    @contextmanager
    def fetched(self, path: Path) -> Iterator[Path]:
        """Fetch a file of the mirror for as long as the block runs; errors name its URL."""
        place = self.url / path.relative_to(self.folder)
        with TemporaryDirectory(prefix="lipsound2-") as folder:
            local = Path(folder) / path.name
            fetch(place, local)
            try:
                yield local
            except LipSoundError as error:
                error.message = error.message.replace(str(local), url_of(place))
                raise

    def told(self, text: str) -> str:
        """Name URLs in the place of files of the mirror."""
        return text.replace(str(self.folder), url_of(self.url))


def make_mirror(url: Path, empty: Iterable[str]) -> Mirror:
    """Mirror a folder of an object store.

    Args:
        url: The folder.
        empty: Suffixes of files that are fetched only when they are needed.
    """
    mirror, large = Mirror(url, mirror_folder(url)), frozenset(empty)
    found = sizes(url)
    with storing(mirror.folder):
        for path in [path for path in mirror.folder.rglob("*") if path.is_file()]:
            if path.relative_to(mirror.folder).as_posix() not in found:
                path.unlink()
        wanted = []
        for name, size in found.items():
            path = mirror.folder / name
            if Path(name).suffix.lower() in large or size > LARGEST:
                _pretend(path, size)
            else:
                wanted.append(name)
        fetch_all(url, wanted, mirror.folder)
    return mirror


def _pretend(path: Path, size: int) -> None:
    """Make an empty file of this size, which takes no room."""
    if not path.exists() or path.stat().st_size != size:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)


@contextmanager
def _speaking(path: Path) -> Iterator[tuple[Any, str]]:
    """Yield the file system of a URL and the name that it has there."""
    url = url_of(path)
    try:
        import fsspec

        with _no_import_hidden(url):
            system, name = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(f"{url} needs another package: {error}", "pip install 'lipsound2[cloud]'") from error
    with guard(url):
        yield system, name


@contextmanager
def _no_import_hidden(url: str) -> Iterator[None]:
    """Turn errors over a URL into ours, but for a package that is not installed."""
    try:
        with guard(url):
            yield
    except LipSoundError as error:
        if isinstance(error.__cause__, ImportError):
            raise error.__cause__ from None
        raise
