"""A corpus reader of one's own: RAVDESS, 24 actors who say two sentences in eight emotions (Livingstone & Russo 2018).

    python examples/extending/ravdess.py prepare ravdess RAVDESS/ -o prepared/

This file is the command `lipsound2` with one corpus more. docs/extending.md walks through it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lipsound2 import corpora
from lipsound2.cli import main
from lipsound2.corpora.clip import Clip, split_by_hash
from lipsound2.corpora.folder import find_videos
from lipsound2.corpora.splits import match_splits
from lipsound2.errors import DataError

SENTENCES = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}


class Name(NamedTuple):
    """The seven fields of a file name such as `01-01-03-02-01-02-12.mp4`."""

    modality: str
    channel: str
    emotion: str
    intensity: str
    statement: str
    repetition: str
    actor: str


def read_ravdess(root: Path) -> Iterator[Clip]:
    """Yield the spoken clips with picture and sound (modality 01, vocal channel 01), actor by actor.

    The split is that of `splits.csv`, else a fixed draw by name.

    Raises:
        DataError: There is none.
    """
    named = {video: _name(video) for video in find_videos(root)}
    clips = {f"{name.actor}/{video.stem}": (video, name) for video, name in named.items() if name}
    if not clips:
        raise DataError(f"no RAVDESS clip below {root}", "videos named like 01-01-03-02-01-02-12.mp4 were expected")
    splits = match_splits(root, list(clips))
    for clip, (video, name) in sorted(clips.items()):
        split = splits.get(clip) or split_by_hash(clip)
        yield Clip(clip, video, f"actor{name.actor}", split, SENTENCES[name.statement])


def _name(video: Path) -> Name | None:
    """Read a file name; None if it is none of RAVDESS, or of another modality or channel."""
    fields = video.stem.split("-")
    if len(fields) != len(Name._fields) or fields[:2] != ["01", "01"] or fields[4] not in SENTENCES:
        return None
    return Name(*fields)


corpora.READERS["ravdess"] = read_ravdess

if __name__ == "__main__":
    main()
