"""One clip of a corpus: a video file, who speaks, what is said and which split it belongs to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import TypeVar

from lipsound2.media import WHOLE, Excerpt

T = TypeVar("T")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Clip:
    """A video of one utterance, or a segment of a longer one.

    Attributes:
        id: Unique in its corpus, without suffix, such as `s1/bbaf2n`.
        video: The file.
        speaker: Who speaks.
        split: `train`, `val` or `test`.
        transcript: What is said, or None where nobody wrote it down.
        audio: The file with the audio, where that is not in the video.
        excerpt: What is used of the files.
        face: Where the speaker's face is at the start, as shares (x, y) of width and height; None is not known.
    """

    id: str
    video: Path
    speaker: str
    split: str
    transcript: str | None = None
    audio: Path | None = None
    excerpt: Excerpt = WHOLE
    face: tuple[float, float] | None = None


Reader = Callable[[Path], Iterator[Clip]]
"""A corpus reader: the corpus's folder -> its clips, in the same order every time."""


def split_by_hash(name: str, val: float = 0.05, test: float = 0.05) -> str:
    """Assign a name to a split for good, whatever else the corpus holds."""
    place = int.from_bytes(sha1(name.encode()).digest()[:4]) / 2**32
    return "test" if place < test else "val" if place < test + val else "train"


def spread(things: list[T], limit: int) -> list[T]:
    """Return `limit` things, spread evenly; 0, or more than there are, returns all."""
    return [things[i * len(things) // limit] for i in range(limit)] if 0 < limit < len(things) else things
