"""Clips that a model was trained and validated on, and those held out <-> a table that travels with it.

    run/ or pack/
      splits.csv    clip, split, audio: each clip's id, its split and a fingerprint of its audio, or nothing

The table can serve as a corpus's `splits.csv`. A model that was fine-tuned has seen what its start has seen.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from lipsound2.corpora.clip import SPLITS
from lipsound2.corpora.splits import SPLITS_NAME
from lipsound2.data.fingerprint import FINGERPRINT, nearest, unpack
from lipsound2.data.shards import Entry
from lipsound2.errors import CheckpointError, guard
from lipsound2.runtime.atomic import write_text

COLUMNS = ("clip", "split", FINGERPRINT)
Name = tuple[str, ...]
"""A clip's name and the folders that it lies in."""
_PART = re.compile(r"#\d+$")
_PRINT = re.compile("(?:[0-9a-f]{32})?")
_PASSED_OVER = frozenset({*SPLITS, "video", "videos", "mpg_6000"})
"""Folders that some copies of a corpus have on the way to a clip and others do not."""


class Seen(NamedTuple):
    """One clip of a model's history."""

    clip: str
    split: str
    audio: str = ""


class History:
    """Splits of clips as a model was trained with them; where they differ, `train` outweighs `val` and `val` `test`.

    Args:
        seen: Clips in any order; one may come several times.
    """

    def __init__(self, seen: Iterable[Seen] = ()) -> None:
        self.clips: dict[str, Seen] = {}
        for each in seen:
            before = self.clips.get(each.clip)
            if before is None or SPLITS.index(each.split) < SPLITS.index(before.split):
                self.clips[each.clip] = each._replace(audio=each.audio or (before.audio if before else ""))

    def __len__(self) -> int:
        return len(self.clips)

    def __or__(self, other: "History") -> "History":
        return History([*self.clips.values(), *other.clips.values()])

    def count(self, split: str) -> int:
        """Return the number of clips of a split."""
        return sum(each.split == split for each in self.clips.values())

    def split(self, clip: str, audio: str = "") -> str | None:
        """Return the split of a clip by its id, else by its audio; None if it is not known."""
        return self.by_name(clip) or self.by_audio(audio)

    def by_name(self, clip: str) -> str | None:
        """Return the split of a clip by its id, which may lie in more or fewer folders; None if it is not known.

        A part `CLIP#01` that is not known itself has the split of the clip, and a clip that of its parts.
        """
        return self._by_name(_parts(clip), self._names, self._tails) or self._by_name(
            _parts(_PART.sub("", clip)), self._recordings, self._tails_of_recordings
        )

    @staticmethod
    def _by_name(parts: Name, names: Mapping[Name, str], tails: Mapping[Name, str]) -> str | None:
        whole = names.get(parts)
        if whole or len(parts) < 2:
            return whole
        inside = next((names[tail] for tail in _tails(parts) if tail in names), None)
        return inside or tails.get(parts)

    def by_audio(self, audio: str) -> str | None:
        """Return the split of a clip by the fingerprint of its audio; None if it is not known."""
        row = nearest(audio, self._prints[0])
        return None if row is None else self._prints[1][row].split

    @property
    def has_audio(self) -> bool:
        """Whether fingerprints are known."""
        return bool(self._prints[1])

    @cached_property
    def _names(self) -> dict[Name, str]:
        return _weighed((_parts(each.clip), each.split) for each in self.clips.values())

    @cached_property
    def _tails(self) -> dict[Name, str]:
        return _weighed((tail, each.split) for each in self.clips.values() for tail in _tails(_parts(each.clip)))

    @cached_property
    def _recordings(self) -> dict[Name, str]:
        return _weighed((_parts(_PART.sub("", each.clip)), each.split) for each in self.clips.values())

    @cached_property
    def _tails_of_recordings(self) -> dict[Name, str]:
        return _weighed((tail, split) for parts, split in self._recordings.items() for tail in _tails(parts))

    @cached_property
    def _prints(self) -> tuple[UInt8[np.ndarray, "clips 16"], list[Seen]]:
        known = sorted((each for each in self.clips.values() if each.audio), key=lambda e: SPLITS.index(e.split))
        return unpack([each.audio for each in known]), known


def history_of(train: Sequence[Entry], val: Sequence[Entry], test: Sequence[Entry] = ()) -> History:
    """Return the history of a run from its prepared clips."""
    splits = zip(SPLITS, (train, val, test), strict=True)
    return History(
        Seen(str(entry.meta.get("id", entry.key)), split, str(entry.meta.get(FINGERPRINT, "")))
        for split, entries in splits
        for entry in entries
    )


def read_history(folder: Path) -> History:
    """Read the history of a pack or a run; it is empty if none was written.

    Raises:
        CheckpointError: The table is damaged.
    """
    path = folder / SPLITS_NAME
    if not path.is_file():
        return History()
    with guard(path):
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    seen = [Seen(*(row.get(name) or "" for name in COLUMNS)) for row in rows]
    if not all(each.clip and each.split in SPLITS and _PRINT.fullmatch(each.audio) for each in seen):
        raise CheckpointError(f"{path} is no table of clips and splits", "fetch the pack again, or train again")
    return History(seen)


def write_history(folder: Path, history: History) -> None:
    """Write a history, sorted by clip; nothing of an empty one."""
    if not len(history):
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([COLUMNS, *sorted(history.clips.values())])
    write_text(folder / SPLITS_NAME, text.getvalue())


def _parts(clip: str) -> Name:
    """Return a clip's name and the folders that tell it apart."""
    names = unicodedata.normalize("NFC", clip).replace("\\", "/").split("/")
    return (*(name for name in names[:-1] if name not in ("", ".", *_PASSED_OVER)), names[-1])


def _tails(parts: Name) -> Iterator[Name]:
    """Yield a name with fewer of its folders, at least one."""
    return (parts[start:] for start in range(1, len(parts) - 1))


def _weighed(pairs: Iterable[tuple[Name, str]]) -> dict[Name, str]:
    found: dict[Name, str] = {}
    for name, split in pairs:
        found[name] = min(found.get(name, split), split, key=SPLITS.index)
    return found
