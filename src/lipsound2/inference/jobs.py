"""Files and folders that a user names -> the videos to work on, each with a name of its own, and what is refused."""

import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lipsound2.errors import ConfigError, LipSoundError, MediaError, explain, guard
from lipsound2.inference.results import RECORDS, Results
from lipsound2.media import VIDEO_SUFFIXES
from lipsound2.runtime.folders import walk

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
    files, unusable = _look_below(source, results, suffixes)
    refused += unusable
    if not files and not unusable:
        what = "video or audio" if set(suffixes) >= SOUND_SUFFIXES else "video"
        hint = "known are mp4, mov, mkv, avi, webm, mpg and the like; results of earlier calls do not count"
        raise MediaError(f"no {what} in the folder {source}", hint)
    return [(video, os.fspath(video.parent.relative_to(source) / video.stem)) for video in files]


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


def _look_below(root: Path, results: Results, suffixes: Collection[str]) -> tuple[list[Path], Refused]:
    """List the files below a folder that are no results of ours, and what cannot be one; linked folders count once."""
    top, own = Path(os.path.realpath(root)), os.path.realpath(results.folder)
    made = {path for folder in (top, *top.parents) for path in _made(folder)}
    files: list[Path] = []
    refused: Refused = []

    def unread(error: OSError) -> None:
        folder = Path(error.filename)
        refused.append((folder, explain(error, folder)))

    # Results may be wanted beside the videos; else all that is in their folder is left alone.
    shut = frozenset() if os.fspath(top) == own else frozenset({own})
    for folder, paths in walk(root, unread, once=True, shut=shut):
        made |= _made(Path(os.path.realpath(folder)))
        for path in paths:
            if path.suffix.lower() in suffixes and os.path.realpath(path) not in made:
                if path.is_file():
                    files.append(path)
                else:
                    what = "is a link that leads nowhere" if path.is_symlink() else "is a pipe or a device"
                    refused.append((path, MediaError(f"{path} {what}", "give a file")))
    return sorted(files), refused


def _made(folder: Path) -> set[str]:
    """List the real paths of the results that a folder keeps records of."""
    return {os.path.realpath(path) for path in Results(folder).made()} if (folder / RECORDS).is_dir() else set()
