"""Long recordings and a table of segments, as of AVSpeech (Ephrat et al. 2018) -> clips that are parts of videos."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from lipsound2.corpora.clip import SPLITS, Clip, split_by_hash
from lipsound2.corpora.folder import find_videos
from lipsound2.corpora.layouts import unlike
from lipsound2.corpora.splits import with_splits
from lipsound2.corpora.tree import Tree
from lipsound2.errors import DataError, guard
from lipsound2.media import Excerpt
from lipsound2.runtime.names import clip_id
from lipsound2.runtime.plaintext import read_text
from lipsound2.runtime.terminal import warn

COLUMNS = ("id", "start", "end", "x", "y", "speaker", "split", "transcript")
"""Of a table; the last three are optional, and without a header the first five come in this order."""
VAL = 0.02
"""Share of the videos of a training table that is held out for validation."""


class _Segment(NamedTuple):
    video: str
    excerpt: Excerpt
    face: tuple[float, float] | None
    speaker: str
    split: str
    transcript: str | None


def read_segments(root: Path) -> Iterator[Clip]:
    """Yield the segments of the tables in a folder whose videos lie below it.

    Tables are CSV files with `segments` in their names, or whose names begin with `avspeech`. A table has the columns
    `id,start,end,x,y`, as those of AVSpeech do without naming them: a video's name without suffix, seconds, and where
    the face is at the start, from 0 to 1 of width and height. A header may leave out `x` and `y`, and add `speaker`
    (else each video counts as one), `split` and `transcript`. Without a split, a table with `test` in its name is for
    testing, of one with `train` two videos in a hundred are held out for validation, and of any other videos are drawn
    90/5/5.

    Raises:
        DataError: There is no such folder, no table or no video of it, or a table cannot be understood.
    """
    tables = [path for stem, path in Tree(root).files(root, {".csv"}).items() if _is_table(stem.lower())]
    if not tables:
        raise unlike("avspeech", root)
    videos = {clip_id(path.relative_to(root).with_suffix("")): path for path in find_videos(root)}
    names = {name.rpartition("/")[2]: path for name, path in videos.items()} | videos
    segments = [segment for table in tables for segment in _read_table(table)]
    found = [segment for segment in segments if segment.video in names]
    gone = {segment.video for segment in segments} - names.keys()
    if not found:
        raise DataError(
            f"none of the {len(gone)} videos that the tables name is below {root}, such as {min(gone, default='')}",
            "videos are named as in the first column, such as 0K2cfp_S3UU.mp4",
        )
    if gone:
        warn(f"{root}: {len(gone)} videos of the tables are not there, such as {min(gone)}")
    yield from with_splits(root, list(_clips(found, names)))


def _is_table(stem: str) -> bool:
    return "segments" in stem or stem.startswith("avspeech")


def _clips(segments: list[_Segment], names: dict[str, Path]) -> Iterator[Clip]:
    seen = Counter[str]()
    for segment in segments:
        start, end = segment.excerpt.start, segment.excerpt.end
        name = f"{segment.video}/{start:.3f}-{end:.3f}"
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"  # two people at the same time
        yield Clip(
            unique,
            names[segment.video],
            segment.speaker,
            segment.split,
            segment.transcript,
            excerpt=segment.excerpt,
            face=segment.face,
        )


def _read_table(path: Path) -> list[_Segment]:
    with guard(path):
        rows = [row for row in csv.reader(io.StringIO(read_text(path).text)) if any(cell.strip() for cell in row)]
    columns = _columns(path, rows[0]) if rows else {}
    body = rows[1:] if rows and not _is_number(rows[0][1:2]) else rows
    cells = ({name: row[at].strip() for name, at in columns.items() if at < len(row)} for row in body)
    segments = [_segment(path, row) for row in cells]
    kept = [segment for segment in segments if segment]
    if lost := len(segments) - len(kept):
        first = ",".join(body[segments.index(None)])
        warn(f"{path}: {lost} of {len(segments)} rows are no segments and left out, such as {first!r}")
    return kept


def _columns(path: Path, first: list[str]) -> dict[str, int]:
    if _is_number(first[1:2]):
        return dict(zip(COLUMNS[:5], range(len(first)), strict=False))
    named = {name.strip().lower(): at for at, name in enumerate(first)}
    if not {"id", "start", "end"} <= named.keys():
        raise DataError(f"{path} needs the columns {','.join(COLUMNS[:5])}, it has {','.join(named)}")
    return {name: at for name, at in named.items() if name in COLUMNS}


def _segment(path: Path, cells: dict[str, str]) -> _Segment | None:
    """Return a row's segment; None if it is none."""
    try:
        start, end = float(cells["start"]), float(cells["end"])
        face = (float(cells["x"]), float(cells["y"])) if cells.get("x") and cells.get("y") else None
    except (KeyError, ValueError):
        return None
    inside = face is None or all(0 <= share <= 1 for share in face)
    split = cells.get("split") or _split(path.stem.lower(), cells["id"])
    if not (cells["id"] and isfinite(end) and 0 <= start < end and inside and split in SPLITS):
        return None
    part = Excerpt(start=start, end=end)
    return _Segment(
        cells["id"], part, face, cells.get("speaker") or cells["id"], split, cells.get("transcript") or None
    )


def _split(table: str, video: str) -> str:
    if "test" in table:
        return "test"
    return split_by_hash(video, VAL, 0.0) if "train" in table else split_by_hash(video)


def _is_number(cells: list[str]) -> bool:
    try:
        return bool(cells) and isfinite(float(cells[0]))
    except ValueError:
        return False
