"""The GRID audiovisual sentence corpus (Cooke et al. 2006) in its published layout -> clips."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lipsound2.corpora.clip import Clip, split_by_hash
from lipsound2.corpora.splits import match_splits
from lipsound2.errors import DataError, guard
from lipsound2.media import VIDEO_SUFFIXES

TICKS_PER_SECOND = 25_000
"""Unit of time in `.align` files."""

_COMMANDS = {"b": "bin", "l": "lay", "p": "place", "s": "set"}
_COLORS = {"b": "blue", "g": "green", "r": "red", "w": "white"}
_PREPOSITIONS = {"a": "at", "b": "by", "i": "in", "w": "with"}
_DIGITS = {
    "z": "zero",
    "1": "one",
    "2": "two",
    "3": "three",
    "4": "four",
    "5": "five",
    "6": "six",
    "7": "seven",
    "8": "eight",
    "9": "nine",
}
_ADVERBS = {"a": "again", "n": "now", "p": "please", "s": "soon"}
_NAME = re.compile(r"[blps][bgrw][abiw][a-z][z1-9][anps]")
_SPEAKER = re.compile(r"s\d{1,2}")


class Word(NamedTuple):
    """A word and when it is said, in seconds from the start of the clip."""

    text: str
    start: float
    end: float


def read_grid(root: Path) -> Iterator[Clip]:
    """Yield the clips of GRID, speaker by speaker, by name.

    Speakers are folders `s1`, `s2`, ..., in `root` or in `root/video`, with their videos in them or
    in a folder `video` or `mpg_6000` below; `root` may also be one speaker's folder. The split is
    that of `splits.csv`, else a fixed 90/5/5 draw by sentence.

    Raises:
        DataError: There is no such folder, or no GRID clip in it.
    """
    if not root.is_dir():
        raise DataError(f"no such folder: {root}")
    with guard(root):
        listed = [(speaker, video) for speaker, folder in _speakers(root) for video in _videos(folder)]
    found = {f"{speaker}/{video.stem}": (speaker, video) for speaker, video in listed}
    if not found:
        raise DataError(
            f"no GRID clip below {root}", "folders s1, s2, ... with videos named like bbaf2n.mpg were expected"
        )
    splits = match_splits(root, list(found))
    for clip_id, (speaker, video) in found.items():
        yield Clip(
            id=clip_id,
            video=video,
            speaker=speaker,
            split=splits.get(clip_id) or split_by_hash(video.stem),
            transcript=sentence(video.stem),
        )


def sentence(name: str) -> str:
    """Spell out a GRID clip's name.

    >>> sentence("bbaf2n")
    'bin blue at f two now'
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a GRID name such as bbaf2n was expected, got {name!r}")
    command, color, preposition, letter, digit, adverb = list(name)
    return " ".join(
        (
            _COMMANDS[command],
            _COLORS[color],
            _PREPOSITIONS[preposition],
            letter,
            _DIGITS[digit],
            _ADVERBS[adverb],
        )
    )


def read_alignment(path: Path) -> list[Word]:
    """Read the words of an `.align` file, without silences and short pauses.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        words = [Word(text, int(start) / TICKS_PER_SECOND, int(end) / TICKS_PER_SECOND) for start, end, text in rows]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a GRID alignment: {error}") from error
    return [word for word in words if word.text not in ("sil", "sp")]


def find_alignment(root: Path, clip_id: str) -> Path | None:
    """Find the `.align` file of a clip in one of the places where copies of GRID keep it."""
    speaker, name = clip_id.split("/")
    folders = ("align", f"align/{speaker}", f"{speaker}/align", f"alignments/{speaker}", "../align")
    candidates = [root / folder / f"{name}.align" for folder in folders]
    return next((path for path in candidates if path.is_file()), None)


def _speakers(root: Path) -> list[tuple[str, Path]]:
    if _SPEAKER.fullmatch(root.resolve().name):
        return [(root.resolve().name, root)]
    folders = {
        path.name: path
        for parent in (root / "video", root)
        if parent.is_dir()
        for path in parent.iterdir()
        if path.is_dir() and _SPEAKER.fullmatch(path.name)
    }
    return sorted(folders.items(), key=lambda item: int(item[0][1:]))


def _videos(folder: Path) -> list[Path]:
    named = {
        path.stem: path
        for place in (folder / "mpg_6000", folder / "video" / "mpg_6000", folder / "video", folder)
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.suffix.lower() in VIDEO_SUFFIXES and _NAME.fullmatch(path.stem)
    }
    return [named[name] for name in sorted(named)]
