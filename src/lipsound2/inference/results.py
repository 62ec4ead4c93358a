"""Videos -> names of their results in a folder that never change hands, and what is already there.

    out/
      clip.wav, ...           results
      .lipsound2/DIGEST.json  a record for each name: whose it is, which files were made of what, with which settings

A record is written before and after the files that it tells of, so that a batch that is killed at any moment goes on
with the same command: what was begun is made anew, what is finished is left alone, and what somebody else put there
is never overwritten.
"""

import json
import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from lipsound2.errors import StorageError
from lipsound2.runtime.atomic import storing, sweep, write_text

RECORDS = ".lipsound2"
CONTENT = "content"
"""Setting that holds the digest of the video that a file was made of."""
LONGEST = 255
"""Bytes of a file's name that the usual file systems hold."""
ROOM = len("-face9.json")
"""Bytes kept for what is put behind the name of a result."""
_PIECE = 1 << 20

Settings = Mapping[str, Any]
"""What a file was made with, as plain data by name."""


@dataclass(frozen=True)
class Record:
    """What is known of the results of one name.

    Attributes:
        name: Path of the results below their folder, without endings.
        source: The video that owns the name, relative to the folder.
        files: What each finished file was made with, by ending.
        begun: Endings of files that are being written.
        voices: How many faces were spoken each on its own, once all were.
        told: What the table says of the video.
    """

    name: str
    source: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: tuple[str, ...] = ()
    voices: int | None = None
    told: dict[str, Any] = field(default_factory=dict)


class Results:
    """The results in a folder.

    Args:
        folder: Made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, video: Path, stem: str) -> Record:
        """Return the record of a video's own name, which is given to it for good.

        It is `stem`, else the video's whole name, else that with a digest of its path: the first that no other
        video owns.

        Args:
            video: The video.
            stem: Preferred path below the folder, without ending.
        """
        source = self._relative(video)
        place, preferred = os.path.split(stem)
        digested = f"{video.name}-{sha1(os.fsencode(source)).hexdigest()[:8]}"
        names = [os.path.join(place, fit(name)) for name in (preferred, video.name, digested)]  # noqa: PTH118
        known = {name: self.read(name) for name in names}
        for record in known.values():
            if record and record.source == source:
                return record
        free = next(name for name, record in known.items() if record is None or self._moved(record, video))
        record = replace(known[free] or Record(free, source), source=source)
        self.write(record)
        return record

    def take(self, video: Path, name: str) -> Record:
        """Return the record of a name that the user chose.

        Raises:
            StorageError: It is another video's.
        """
        source, found = self._relative(video), self.read(name)
        if found and found.source != source and any(self.path(name, ending).exists() for ending in found.files):
            raise StorageError(
                f"{self.folder / name} holds results of {self._owner(found)}", "choose another name with -o"
            )
        record = found if found and found.source == source else Record(name, source)
        self.write(record)
        return record

    def read(self, name: str) -> Record | None:
        """Read the record of a name, if it has one.

        Raises:
            StorageError: It is damaged.
        """
        path = self._record(name)
        try:
            with storing(path):
                return _parse(path) if path.exists() else None
        except (ValueError, TypeError) as error:
            raise StorageError(f"{path} is damaged: {error}", "delete it, and make its results with --force") from error

    def write(self, record: Record) -> None:
        """Write a record, whole or not at all."""
        write_text(self._record(record.name), json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")

    def path(self, name: str, ending: str) -> Path:
        """Return the path of a result."""
        return self.folder / f"{name}{ending}"

    def missing(self, record: Record, video: Path, wanted: Mapping[str, Settings], force: bool) -> list[str]:
        """List the endings of the wanted files that are still to be made.

        Args:
            record: Of the video's name.
            video: The video.
            wanted: What each file shall be made with, by ending.
            force: Whether to make all anew.

        Raises:
            StorageError: A file is there that was made otherwise or by others, or is the video itself.
        """
        todo = []
        for ending, settings in wanted.items():
            path = self.path(record.name, ending)
            if path.exists() and path.samefile(video):
                raise StorageError(f"{path} is the video itself", "choose another folder with -o")
            if force or not path.exists() or ending in record.begun:
                todo.append(ending)
            elif ending not in record.files:
                raise StorageError(
                    f"{path} exists and was not made here from {video}",
                    "overwrite it with --force or choose another folder with -o",
                )
            elif record.files[ending] != settings:
                raise StorageError(
                    f"{path} was made {difference(record.files[ending], settings)}",
                    "make it anew with --force or choose another folder with -o",
                )
        return todo

    def begin(self, name: str, endings: Iterable[str]) -> None:
        """Note that files are about to be written."""
        record = self.known(name)
        files = {ending: made for ending, made in record.files.items() if ending not in set(endings)}
        self.write(replace(record, files=files, begun=tuple(sorted({*record.begun, *endings}))))

    def finish(self, name: str, files: Mapping[str, Settings], told: Mapping[str, Any] | None = None) -> None:
        """Note that files were written, with what, and what the table says of them."""
        record = self.known(name)
        made = record.files | {ending: dict(settings) for ending, settings in files.items()}
        begun = tuple(ending for ending in record.begun if ending not in files)
        self.write(replace(record, files=made, begun=begun, told=record.told | dict(told or {})))

    def set_voices(self, name: str, voices: int) -> None:
        """Note how many faces were spoken each on its own."""
        self.write(replace(self.known(name), voices=voices))

    def made(self) -> set[Path]:
        """List the results that are, or are being, written here; what cannot be read is passed over."""
        found = set()
        for path in (self.folder / RECORDS).glob("*.json"):
            try:
                record = _parse(path)
            except (OSError, ValueError, TypeError):
                continue
            found |= {self.path(record.name, ending) for ending in (*record.files, *record.begun)}
        return found

    def sweep(self, names: Iterable[str]) -> None:
        """Remove what killed processes left half-written beside results."""
        for folder in {self.folder / RECORDS, *((self.folder / name).parent for name in names)}:
            sweep(folder)

    def known(self, name: str) -> Record:
        """Return the record of a name that has one.

        Raises:
            StorageError: It is gone.
        """
        record = self.read(name)
        if record is None:
            raise StorageError(f"the record of {self.folder / name} is gone", "do not delete records during the work")
        return record

    def _record(self, name: str) -> Path:
        digest = sha1(os.fsencode(fold(Path(name).as_posix()))).hexdigest()[:16]
        return self.folder / RECORDS / f"{digest}.json"

    def _relative(self, video: Path) -> str:
        source = os.path.realpath(video)
        try:
            return Path(os.path.relpath(source, os.path.realpath(self.folder))).as_posix()
        except ValueError:  # another drive of Windows
            return Path(source).as_posix()

    def _owner(self, record: Record) -> Path:
        return Path(os.path.normpath(os.path.realpath(self.folder) / Path(record.source)))

    def _moved(self, record: Record, video: Path) -> bool:
        """Return whether a record's video is gone and this one has its content."""
        contents = {settings.get(CONTENT) for settings in record.files.values()}
        return bool(contents) and not self._owner(record).exists() and contents == {digest(video)}


def fit(name: str) -> str:
    """Shorten a name that leaves no room for an ending; a digest of the whole keeps it unlike others."""
    whole = os.fsencode(name)
    if len(whole) + ROOM <= LONGEST:
        return name
    mark = f"~{sha1(whole).hexdigest()[:10]}"
    return whole[: LONGEST - ROOM - len(mark)].decode("utf-8", "ignore") + mark


def fold(name: str) -> str:
    """Return what is the same for names that some file systems take for one: case and composed letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def digest(path: Path) -> str:
    """Return a digest of a file's size, first, middle and last mebibyte, the same at any speed of the disk."""
    size = path.stat().st_size
    whole = sha256(str(size).encode())
    with path.open("rb") as file:
        for start in sorted({0, max(0, size // 2 - _PIECE // 2), max(0, size - _PIECE)}):
            file.seek(start)
            whole.update(file.read(_PIECE))
    return whole.hexdigest()[:32]


def difference(made: Settings, wanted: Settings) -> str:
    """Return in which setting a file differs from what is wanted."""
    for name in wanted.keys() | made.keys():
        if name == CONTENT and made.get(name) != wanted.get(name):
            return "before its video was changed"
    if ("recognizer" in made) != ("recognizer" in wanted):
        return "without text" if "recognizer" in wanted else "with text"
    name = min(name for name in wanted.keys() | made.keys() if made.get(name) != wanted.get(name))
    return f"with {name} {made.get(name, 'none')}, not {wanted.get(name, 'none')}"


def _parse(path: Path) -> Record:
    data = json.loads(path.read_text(encoding="utf-8"))
    return Record(**data | {"begun": tuple(data["begun"])})
