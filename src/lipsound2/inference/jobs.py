"""Files and folders that a user names -> the videos to work on, each with a name of its own, and what is refused."""

import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lipsound2.errors import ConfigError, LipSoundError, MediaError, guard
from lipsound2.inference.results import RECORDS, Results
from lipsound2.media import VIDEO_SUFFIXES

SOUND_SUFFIXES = frozenset(
    f".{name}" for name in ("aac", "flac", "m4a", "mka", "mp3", "oga", "ogg", "opus", "wav", "wma")
)
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)


Refused = list[tuple[Path, LipSoundError]]
"""Inputs of which nothing can be made, and why."""


@dataclass(frozen=True)
class Job:
    """One video and where its results go.

    Attributes:
        video: The file.
        name: Path of its results below their folder, without endings.
    """

    video: Path
    name: str


class Found(NamedTuple):
    """What is to be done, and inputs of which nothing can be made, with the reason."""

    jobs: list[Job]
    refused: Refused

    @property
    def total(self) -> int:
        """How many inputs there are in all."""
        return len(self.jobs) + len(self.refused)


def find_jobs(
    inputs: list[Path],
    results: Results,
    suffixes: Collection[str] = VIDEO_SUFFIXES,
    name: str | None = None,
    claim: bool = True,
) -> Found:
    """List the videos of files and folders, each once, with names that are theirs for good.

    A folder's videos keep their place in it. What was made of others by earlier calls is no input.

    Args:
        inputs: Files and folders.
        results: Where results go.
        suffixes: Of the files that are looked for in folders.
        name: That the user chose for the results of the only input.
        claim: Whether results will be written, so that names are given for good.
    """
    found = Found([], [])
    seen: set[tuple[int, int]] = set()
    for source in inputs:
        try:
            with guard(source):
                videos = _expand(source, results, suffixes, found.refused)
        except LipSoundError as error:
            found.refused.append((source, error))
            continue
        for video, stem in videos:
            try:
                with guard(video):
                    status = video.stat()
                    if (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        record = results.take(video, name) if name else results.claim(video, stem) if claim else None
                        found.jobs.append(Job(video, record.name if record else stem))
            except LipSoundError as error:
                found.refused.append((video, error))
    return found


class Place(NamedTuple):
    """Where results go: a folder and, if the user named a file, its name and its format."""

    folder: Path
    name: str | None = None
    format: str | None = None


def read_output(output: Path, inputs: list[Path], known: Collection[str], asked: str | None = None) -> Place:
    """Understand what the user gave as output: a folder, or for one video a file, as `ffmpeg` takes it.

    Args:
        output: What was given.
        inputs: The inputs.
        known: Formats that can be written.
        asked: Formats that were asked for, with commas between them.

    Raises:
        ConfigError: The file has another format, or cannot hold what several inputs give.
    """
    suffix = output.suffix.lower()
    if output.is_dir() or suffix not in VIDEO_SUFFIXES | SOUND_SUFFIXES | {f".{name}" for name in known}:
        return Place(output)
    if suffix[1:] not in known:
        raise ConfigError(f"{output}: nothing is written as {suffix[1:]}", f"one of {', '.join(known)}, or a folder")
    if asked and suffix[1:] not in asked.split(","):
        raise ConfigError(f"{output} is no file of the formats {asked}", "leave out -f, or give a folder with -o")
    if len(inputs) != 1 or inputs[0].is_dir():
        raise ConfigError(f"{output} is one file, and the input is not", "give a folder with -o")
    return Place(output.parent, output.stem, suffix[1:])


def _expand(source: Path, results: Results, suffixes: Collection[str], refused: Refused) -> list[tuple[Path, str]]:
    """List the videos of an input and the names that they would like to have."""
    _check(source)
    if not source.is_dir():
        return [(source, source.stem)]
    walk = _Walk(source, results, suffixes)
    refused += walk.refused
    if not walk.files and not walk.refused:
        what = "video or audio" if set(suffixes) >= SOUND_SUFFIXES else "video"
        hint = "known are mp4, mov, mkv, avi, webm, mpg and the like; results of earlier calls do not count"
        raise MediaError(f"no {what} in the folder {source}", hint)
    return [(video, os.fspath(video.parent.relative_to(source) / video.stem)) for video in walk.files]


def _check(source: Path) -> None:
    """Refuse what is neither a file nor a folder.

    Raises:
        MediaError: It is not there, or is a URL or a pipe.
    """
    url = _URL.match(str(source))
    if os.fspath(source) == "-":
        raise MediaError("-: pipes cannot be read", "give a file")
    if url and not source.exists():
        hint = "give the path alone" if url[1].lower() == "file" else "download it first, then give the file"
        slashes = "///" if url[1].lower() == "file" else "//"
        whole = f"{url[1]}:{slashes}{str(source)[url.end() :].lstrip('/')}"
        raise MediaError(f"{whole} is a URL, a file or folder was expected", hint)
    mode = source.stat().st_mode if _there(source) else 0
    if not mode:
        raise MediaError(f"no such file: {source}")
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise MediaError(f"{source} is a pipe or a device, which cannot be read", "give a file")


def _there(source: Path) -> bool:
    try:
        source.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


class _Walk:
    """Lists the files below a folder by name, but no hidden ones and no results; linked folders are entered once."""

    def __init__(self, root: Path, results: Results, suffixes: Collection[str]) -> None:
        self.suffixes = suffixes
        self.own = os.path.realpath(results.folder)
        self.made: set[str] = set()
        self.entered: set[str] = set()
        self.files: list[Path] = []
        self.refused: list[tuple[Path, LipSoundError]] = []
        top = Path(os.path.realpath(root))
        for folder in (top, *top.parents):
            self._learn(folder)
        # Results may be wanted beside the videos; else all that is in their folder is left alone.
        self.shut = set() if top == Path(self.own) else {self.own}
        self._enter(root)
        self.files.sort()

    def _enter(self, folder: Path) -> None:
        real = os.path.realpath(folder)
        if real in self.entered or real in self.shut:
            return
        self.entered.add(real)
        self._learn(Path(real))
        try:
            with guard(folder):
                for path in sorted(folder.iterdir()):
                    self._take(path)
        except LipSoundError as error:
            self.refused.append((folder, error))

    def _take(self, path: Path) -> None:
        if path.name.startswith("."):
            return
        if path.is_dir():
            self._enter(path)
        elif path.suffix.lower() in self.suffixes and os.path.realpath(path) not in self.made:
            if path.is_file():
                self.files.append(path)
            else:
                what = "is a link that leads nowhere" if path.is_symlink() else "is a pipe or a device"
                self.refused.append((path, MediaError(f"{path} {what}", "give a file")))

    def _learn(self, folder: Path) -> None:
        if (folder / RECORDS).is_dir():
            self.made |= {os.path.realpath(path) for path in Results(folder).made()}
