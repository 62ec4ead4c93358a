"""VoxCeleb2 (Chung et al. 2018) in its published layout -> clips; nobody wrote down what is said."""

import csv
from collections.abc import Iterator
from pathlib import Path

from lipsound2.corpora.clip import Clip, split_by_hash
from lipsound2.corpora.layouts import unlike
from lipsound2.corpora.splits import with_splits
from lipsound2.corpora.tree import AUDIO_SUFFIXES, Tree
from lipsound2.errors import guard
from lipsound2.media import VIDEO_SUFFIXES
from lipsound2.runtime.plaintext import read_text
from lipsound2.runtime.terminal import warn

META_NAME = "vox2_meta.csv"
VAL = 0.01
"""Share of the development speakers whose clips are held out for validation."""
_SETS = ("dev", "test")
_ABOVE = ("", "vox2_dev_mp4", "vox2_mp4", "vox2_test_mp4")
"""Folders that the archives are unpacked into."""


def read_voxceleb2(root: Path) -> Iterator[Clip]:
    """Yield the clips of VoxCeleb2, speaker by speaker.

    Videos are `mp4/ID/VIDEO/00001.mp4`, their audio `aac/ID/VIDEO/00001.m4a`, both below `dev`, `test` or the folder
    itself; audio that lies beside a video or in it counts too. The test speakers are those below `test`, else those
    that `vox2_meta.csv` names; of the others one in a hundred is held out for validation with all that they say.

    Raises:
        DataError: There is no such folder, or no clip in it.
    """
    tree = Tree(root)
    published = _published_sets(root)
    places = list(_places(root, tree))
    clips = [
        clip
        for mp4, aac, own in places
        for speaker in tree.folders(mp4)
        if _is_speaker(speaker.name)
        for clip in _clips(tree, speaker, aac / speaker.name, _split(speaker.name, own or published.get(speaker.name)))
    ]
    if not clips:
        raise unlike("voxceleb2", root)
    tree.report()
    if not published and all(own is None for _, _, own in places):
        warn(f"{root} has neither folders dev and test nor {META_NAME}: no clip is taken as a test clip")
    yield from with_splits(root, clips)


def _places(root: Path, tree: Tree) -> Iterator[tuple[Path, Path, str | None]]:
    """Yield the folders of videos, where the audio of each would be, and which set they are, if that is known."""
    for above in _ABOVE:
        for part in ("", *_SETS):
            folder = root / above / part
            for mp4 in (folder / "mp4", folder):
                if any(_is_speaker(name) for name in tree.names(mp4).folders):
                    aac = (root / above.replace("mp4", "aac") / part if mp4 != folder else folder) / "aac"
                    yield mp4, aac, part or ("test" if "test" in above else None)


def _clips(tree: Tree, speaker: Path, sounds: Path, split: str) -> Iterator[Clip]:
    for video in tree.folders(speaker):
        beside = tree.files(sounds / video.name, AUDIO_SUFFIXES) or tree.files(video, AUDIO_SUFFIXES)
        for stem, path in tree.files(video, VIDEO_SUFFIXES).items():
            yield Clip(f"{speaker.name}/{video.name}/{stem}", path, speaker.name, split, audio=beside.get(stem))


def _split(speaker: str, published: str | None) -> str:
    return "test" if published == "test" else split_by_hash(speaker, VAL, 0.0)


def _is_speaker(name: str) -> bool:
    return len(name) == 7 and name.startswith("id") and name[2:].isdigit()


def _published_sets(root: Path) -> dict[str, str]:
    """Read which set each speaker is of; an empty table where the file is not there."""
    path = root / META_NAME
    if not path.is_file():
        return {}
    with guard(path):
        rows = [[cell.strip() for cell in row] for row in csv.reader(read_text(path).text.splitlines())]
    return {row[0]: row[-1] for row in rows if row and _is_speaker(row[0])}
