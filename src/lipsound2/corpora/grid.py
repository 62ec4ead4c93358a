"""The GRID audiovisual sentence corpus (Cooke et al. 2006) as published and as it is passed on -> clips."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lipsound2.corpora.clip import Clip, split_by_hash
from lipsound2.corpora.layouts import unlike
from lipsound2.corpora.splits import with_splits
from lipsound2.corpora.tree import Tree
from lipsound2.errors import DataError
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
_SPEAKER = re.compile(r"(s\d{1,2})(?:_processed)?")


class Word(NamedTuple):
    """A word and when it is said, in seconds from the start of the clip."""

    text: str
    start: float
    end: float


def read_grid(root: Path) -> Iterator[Clip]:
    """Yield the clips of GRID, speaker by speaker, by name.

    Speakers are folders `s1`, `s2`, ... or `s1_processed`, ..., in `root` or in `root/video`, with their videos in
    them or in a folder `video`, `mpg_6000`, `mpg_vcd` or of the same name below; `root` may also be one speaker's
    folder. The split is that of `splits.csv`, else a fixed 90/5/5 draw by sentence.

    Raises:
        DataError: There is no such folder, or no GRID clip in it.
    """
    tree = Tree(root)
    clips = [
        Clip(f"{speaker}/{name}", video, speaker, split_by_hash(name), sentence(name))
        for speaker, folder in _speakers(root, tree)
        for name, video in _videos(folder, tree).items()
    ]
    if not clips:
        raise unlike("grid", root)
    tree.report()
    yield from with_splits(root, clips)


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
    folders = (
        "align",
        f"align/{speaker}",
        f"{speaker}/align",
        f"{speaker}_processed/align",
        f"alignments/{speaker}",
        "../align",
    )
    candidates = [root / folder / f"{name}.align" for folder in folders]
    return next((path for path in candidates if path.is_file()), None)


def _speakers(root: Path, tree: Tree) -> list[tuple[str, Path]]:
    alone = _SPEAKER.fullmatch(root.resolve().name)
    if alone:
        return [(alone[1], root)]
    folders = {
        match[1]: path
        for parent in (root / "video", root)
        for path in tree.folders(parent)
        if (match := _SPEAKER.fullmatch(path.name))
    }
    return sorted(folders.items(), key=lambda item: int(item[0][1:]))


def _videos(folder: Path, tree: Tree) -> dict[str, Path]:
    """Find a speaker's videos by name; of several copies of one, the better."""
    inner = (folder, folder / "video", folder / folder.resolve().name)
    named = {
        name: path
        for quality in ("mpg_vcd", "", "mpg_6000")
        for place in inner
        for name, path in tree.files(place / quality, VIDEO_SUFFIXES).items()
        if _NAME.fullmatch(name)
    }
    return {name: named[name] for name in sorted(named)}
