"""The folders of a corpus -> their folders and files by name; those that cannot be read are counted."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from lipsound2.runtime.terminal import warn

AUDIO_SUFFIXES = frozenset({".m4a", ".aac", ".wav", ".flac"})
"""Of audio that lies beside videos."""


class Names(NamedTuple):
    """What a folder holds, by name; hidden entries are left out."""

    folders: list[str]
    files: list[str]


class Tree:
    """Lists the folders of a corpus and remembers those that could not be read.

    Args:
        root: The corpus.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._unread: list[OSError] = []
        self._listed: tuple[Path, Names] | None = None

    def names(self, folder: Path) -> Names:
        """Return what a folder holds; one that is not there or cannot be read holds nothing."""
        if self._listed is None or self._listed[0] != folder:
            self._listed = folder, self._scan(folder)
        return self._listed[1]

    def folders(self, folder: Path) -> list[Path]:
        """List the folders in a folder."""
        return [folder / name for name in self.names(folder).folders]

    def files(self, folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
        """Return the files of a folder by name without suffix, those with one of some suffixes alone."""
        parted = ((name, *name.rpartition(".")) for name in self.names(folder).files)
        return {stem: folder / name for name, stem, dot, suffix in parted if f"{dot}{suffix.lower()}" in suffixes}

    def report(self) -> None:
        """Warn once of folders that could not be read."""
        if self._unread:
            count = "1 folder" if len(self._unread) == 1 else f"{len(self._unread)} folders"
            first = self._unread[0]
            warn(f"{count} below {self.root} could not be read, such as {first.filename} ({first.strerror})")

    def _scan(self, folder: Path) -> Names:
        folders, files = list[str](), list[str]()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        (folders if _is_folder(entry) else files).append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return Names([], [])
        except OSError as error:
            self._unread.append(error)
        return Names(sorted(folders), sorted(files))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
