"""`splits.csv` of a corpus and the ids of its clips -> the split of each clip that it names."""

import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lipsound2.corpora.clip import SPLITS, Clip
from lipsound2.errors import DataError, guard
from lipsound2.media import VIDEO_SUFFIXES
from lipsound2.runtime.plaintext import read_text
from lipsound2.runtime.terminal import warn

SPLITS_NAME = "splits.csv"
_HINT = "clips are named by their path below the corpus without suffix, such as ann/x"


class _Row(NamedTuple):
    clip: str
    split: str


def read_splits(root: Path) -> dict[str, str]:
    """Read `splits.csv` of a corpus (columns `clip` and `split`); without one the table is empty.

    Commas, semicolons or tabs may part the columns, as spreadsheets write them.

    Raises:
        DataError: The file names no such columns, an unknown split, or two splits for one clip.
    """
    path = root / SPLITS_NAME
    if not path.is_file():
        return {}
    splits: dict[str, str] = {}
    for row in _rows(path):
        if row.split not in SPLITS:
            raise DataError(f"{path} names the split {row.split!r}, one of {', '.join(SPLITS)} was expected")
        if splits.setdefault(row.clip, row.split) != row.split:
            raise DataError(f"{path} names {row.clip} twice, as {splits[row.clip]} and as {row.split}")
    return splits


def match_splits(root: Path, clips: Sequence[str]) -> dict[str, str]:
    """Find the split that `splits.csv` gives each of some clips; a clip it does not name is left out.

    A row may also name a clip with its suffix, with backslashes or with a leading `./`.

    Raises:
        DataError: A row of `val` or `test` names no clip, which would be trained on then, or a row's clip two splits.
    """
    splits = read_splits(root)
    if not splits:
        return {}
    names: dict[str, list[str]] = {}
    for clip in clips:
        for form in {_plain(clip), _plain(_without_suffix(clip))}:
            names.setdefault(form, []).append(clip)
    found: dict[str, str] = {}
    lost: list[_Row] = []
    for name, split in splits.items():
        meant = _match(name, names)
        for clip in meant:
            if found.setdefault(clip, split) != split:
                raise DataError(f"{root / SPLITS_NAME} names {clip} twice, as {found[clip]} and as {split}")
        if not meant:
            lost.append(_Row(name, split))
    _report(root / SPLITS_NAME, lost, len(splits))
    return found


def with_splits(root: Path, clips: list[Clip]) -> Iterator[Clip]:
    """Yield clips with the splits of `splits.csv` in the place of their own."""
    named = match_splits(root, [clip.id for clip in clips])
    for clip in clips:
        split = named.get(clip.id, clip.split)
        yield clip if split == clip.split else replace(clip, split=split)


def _match(name: str, names: dict[str, list[str]]) -> list[str]:
    """List the clips that a row means: one, or those that differ in their suffix alone."""
    slashed = name.replace("\\", "/")
    forms = [form for path in (name, slashed) for form in (path, path.removeprefix("./"), _without_suffix(path))]
    return next((names[_plain(form)] for form in forms if _plain(form) in names), [])


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.removeprefix("./").rpartition(".")
    return stem if dot + suffix.lower() in VIDEO_SUFFIXES else name


def _plain(name: str) -> str:
    """Return a name in the one form of its accents; systems differ in which they store."""
    return unicodedata.normalize("NFC", name)


def _report(path: Path, lost: Sequence[_Row], total: int) -> None:
    held_out = [row for row in lost if row.split != "train"]
    if held_out:
        raise DataError(f"{path} names {_count(held_out, 'to be held out ')}", _HINT)
    if lost and len(lost) == total:
        raise DataError(f"{path} names {_count(lost)}, and no other", _HINT)
    if lost:
        warn(f"{path} names {_count(lost)}")


def _count(rows: Sequence[_Row], why: str = "") -> str:
    count = f"1 clip {why}that is" if len(rows) == 1 else f"{len(rows)} clips {why}that are"
    return f"{count} not there, such as {rows[0].clip!r}"


def _rows(path: Path) -> list[_Row]:
    with guard(path):
        text = read_text(path).text
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep="):
        first, _, rest = rest.partition("\n")
    delimiter = max(",;\t", key=first.count)
    header = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if not {"clip", "split"} <= set(header):
        raise DataError(f"{path} needs the columns clip and split, it has {', '.join(filter(None, header)) or 'none'}")
    clip, split = header.index("clip"), header.index("split")
    rows = []
    for cells in csv.reader(io.StringIO(rest), delimiter=delimiter):
        if any(cell.strip() for cell in cells):
            if len(cells) <= max(clip, split) or not cells[clip].strip():
                raise DataError(f"{path} has a row without clip or split: {delimiter.join(cells)!r}")
            rows.append(_Row(cells[clip].strip(), cells[split].strip().lower()))
    return rows
