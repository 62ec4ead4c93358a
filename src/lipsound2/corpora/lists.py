"""The published lists of a corpus, a file for each split -> the split of each clip."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lipsound2.corpora.clip import Clip
from lipsound2.errors import DataError, guard
from lipsound2.runtime.plaintext import read_text
from lipsound2.runtime.terminal import warn


def read_lists(lists: Mapping[str, Path], names_in: Callable[[str], Iterable[str]]) -> dict[str, str]:
    """Read the published lists of a corpus: the split of each name.

    Args:
        lists: A file for each split.
        names_in: Returns the names in the text of a file.

    Raises:
        DataError: A name stands in two of them.
    """
    found: dict[str, str] = {}
    for split, path in lists.items():
        with guard(path):
            names = list(names_in(read_text(path).text))
        again = next((name for name in names if name in found), None)
        if again:
            raise DataError(f"{path} names {again}, which {lists[found[again]].name} names too")
        found |= dict.fromkeys(names, split)
    return found


def of_lists(root: Path, clips: Mapping[str, Clip], splits: Mapping[str, str], part: str = "") -> list[Clip]:
    """Keep the clips that published lists name, with their splits, and tell how many others there are.

    Args:
        root: Folder of the corpus.
        clips: By the names that the lists have for them.
        splits: What `read_lists` read.
        part: Which part of the corpus they are, in words.
    """
    kept = [replace(clip, split=splits[name]) for name, clip in clips.items() if name in splits]
    for what, count in (
        (f"{part}are in no list and left out", len(clips) - len(kept)),
        ("of the lists are not there", len(splits) - len(kept)),
    ):
        if count:
            warn(f"{root}: {count} clips {what}")
    return kept
