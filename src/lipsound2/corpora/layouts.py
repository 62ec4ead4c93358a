"""A folder -> which corpus it looks like; and the error of one that is not what was expected."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lipsound2.corpora.tree import Names, Tree
from lipsound2.errors import DataError

LOOKED_AT = 5
"""Entries of a folder that are tried for each part of a shape."""
_GRID = "[blps][bgrw][abiw][a-z][z1-9][anps].*"


class Layout(NamedTuple):
    """What the published copy of a corpus looks like.

    Attributes:
        title: Its name.
        expected: Where its clips lie, in words.
        shapes: Paths below its folder, with the wildcards of `fnmatch`, that no other corpus has.
    """

    title: str
    expected: str
    shapes: tuple[str, ...]


LAYOUTS = {
    "grid": Layout(
        "GRID",
        "folders s1, s2, ... with videos named like bbaf2n.mpg",
        tuple(
            f"{folder}/{_GRID}"
            for speaker in ("s[0-9]", "s[0-9][0-9]", "s[0-9]_processed", "s[0-9][0-9]_processed")
            for folder in (
                *(speaker, f"video/{speaker}", f"{speaker}/video", f"{speaker}/{speaker}"),
                *(f"{speaker}/video/mpg_*", f"{speaker}/mpg_*", f"video/{speaker}/video/mpg_*"),
            )
        ),
    ),
    "lombard-grid": Layout(
        "Lombard GRID",
        "lombardgrid/front/s2_l_bbim3a.mov with lombardgrid/audio/s2_l_bbim3a.wav",
        tuple(f"{above}{view}/s*_[lp]_*.mov" for above in ("", "*/", "*/*/") for view in ("front", "side")),
    ),
    "lrs2": Layout(
        "LRS2",
        "main/RECORDING/00001.mp4 with 00001.txt, and train.txt, val.txt and test.txt",
        ("main/[0-9]*/[0-9]*.mp4", "mvlrs_v1/*/[0-9]*/[0-9]*.mp4"),
    ),
    "lrs3": Layout(
        "LRS3",
        "pretrain, trainval or test, in each TALK/00001.mp4 with TALK/00001.txt",
        tuple(f"{above}{part}/*/[0-9]*.mp4" for above in ("", "lrs3*/") for part in ("trainval", "pretrain")),
    ),
    "voxceleb2": Layout(
        "VoxCeleb2",
        "dev/mp4/id00012/VIDEO/00001.mp4 with dev/aac/id00012/VIDEO/00001.m4a, and test/ likewise",
        ("id[0-9]*/*/*.mp4", "mp4/id[0-9]*/*/*.mp4", "*/id[0-9]*/*/*.mp4", "*/mp4/id[0-9]*/*/*.mp4"),
    ),
    "tcd-timit": Layout(
        "TCD-TIMIT",
        "volunteers/01M/Clips/straightcam/NAME.mp4 or lipspeakers/Lipspkr1/Clips/straightcam/NAME.mp4",
        tuple(f"{above}straightcam/*" for above in ("*/*/Clips/", "*/Clips/", "*/*/", "*/")),
    ),
    "cmlr": Layout(
        "CMLR",
        "video/s1/DATE/section_*.mp4 with text/s1/DATE/section_*.txt, and train.csv, val.csv and test.csv",
        ("video/s[0-9]*/[0-9]*/section_*", "s[0-9]*/[0-9]*/section_*"),
    ),
    "avspeech": Layout(
        "AVSpeech",
        "a table of segments (avspeech_train.csv, segments.csv) and videos that are named by its first column",
        ("avspeech*.csv", "*segments*.csv"),
    ),
}
"""By the name of their readers; the first that fits a folder counts."""


def recognize(root: Path) -> str | None:
    """Return the name of the corpus that a folder looks like; a few folders of each level are looked at."""
    names = cache(Tree(root).names)
    shapes = {name: [shape.split("/") for shape in layout.shapes] for name, layout in LAYOUTS.items()}
    return next((name for name, parts in shapes.items() if any(_fits(names, root, part) for part in parts)), None)


def unlike(name: str, root: Path) -> DataError:
    """Return the error of a folder without any clip of a corpus: what was expected, what was found."""
    layout, found = LAYOUTS[name], recognize(root) if root.is_dir() else None
    if not root.is_dir():
        return DataError(f"no such folder: {root}")
    hint = "docs/data.md shows the layouts that are known"
    if found and found != name:
        hint = f"it looks like {LAYOUTS[found].title}: lipsound2 prepare {found} {root}"
    return DataError(f"no {layout.title} clip below {root}: {layout.expected} was expected, found {_found(root)}", hint)


def _fits(names: Callable[[Path], Names], folder: Path, parts: list[str]) -> bool:
    here = names(folder)
    part, rest = parts[0], parts[1:]
    if not rest:
        return any(fnmatchcase(name, part) for name in here.files)
    below = [name for name in here.folders if fnmatchcase(name, part)][:LOOKED_AT]
    return any(_fits(names, folder / name, rest) for name in below)


def _found(root: Path) -> str:
    folders, files = Tree(root).names(root)
    parts = [
        f"{len(names)} {what}{'s' * (len(names) > 1)} such as {', '.join(names[:3])}"
        for what, names in (("folder", folders), ("file", files))
        if names
    ]
    return " and ".join(parts) or "an empty folder"
