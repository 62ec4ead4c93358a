"""Lombard GRID (Alghamdi et al. 2018), from the front or the side -> clips with transcripts."""

import re
from collections.abc import Iterator
from pathlib import Path

from lipsound2.corpora.clip import Clip, split_by_hash
from lipsound2.corpora.grid import sentence
from lipsound2.corpora.layouts import unlike
from lipsound2.corpora.splits import with_splits
from lipsound2.corpora.tree import AUDIO_SUFFIXES, Tree
from lipsound2.media import VIDEO_SUFFIXES

_NAME = re.compile(
    r"(?P<speaker>s\d{1,2})_(?P<manner>[lp])_(?P<said>[blps][bgrw][abiw][a-z][z1-9][anps])(?P<wrong>_.*)?"
)
_VIEWS = ("front", "side")


def read_lombard_grid(root: Path) -> Iterator[Clip]:
    """Yield the clips of Lombard GRID from the front, speaker by speaker; of a folder `side`, those from the side.

    Videos are `front/s2_l_bbim3a.mov` (`l` is Lombard speech, `p` plain), their audio `audio/s2_l_bbim3a.wav`, in the
    folder, in `lombardgrid`, or each archive unpacked on its own. The split is a fixed 90/5/5 draw by sentence. Clips
    that are marked as spoken wrongly have no transcript.

    Raises:
        DataError: There is no such folder, or no clip in it.
    """
    tree = Tree(root)
    here = root.resolve()
    view = here.name if here.name in _VIEWS else "front"
    top = here.parent if here.name in _VIEWS else root
    videos = _files(tree, top, view, VIDEO_SUFFIXES)
    sounds = _files(tree, top, "audio", AUDIO_SUFFIXES)
    clips = sorted((clip for stem, video in videos.items() if (clip := _clip(stem, video, sounds))), key=_order)
    if not clips:
        raise unlike("lombard-grid", root)
    tree.report()
    yield from with_splits(root, clips)


def _files(tree: Tree, top: Path, part: str, suffixes: frozenset[str]) -> dict[str, Path]:
    """Find the files of a view, or the audio, also in a folder a speaker."""
    apart = f"lombardgrid_{part}"
    places = [top / part, top / "lombardgrid" / part, top / apart / "lombardgrid" / part, top / apart / part]
    folders = [folder for place in places for folder in (place, *tree.folders(place))]
    return {stem: path for folder in folders for stem, path in tree.files(folder, suffixes).items()}


def _clip(stem: str, video: Path, sounds: dict[str, Path]) -> Clip | None:
    name = _NAME.fullmatch(stem)
    if not name:
        return None
    said = None if name["wrong"] else sentence(name["said"])
    clip_id = f"{name['speaker']}/{stem.removeprefix(name['speaker'] + '_')}"
    return Clip(clip_id, video, name["speaker"], split_by_hash(name["said"]), said, sounds.get(stem))


def _order(clip: Clip) -> tuple[int, str]:
    return int(clip.speaker[1:]), clip.id
