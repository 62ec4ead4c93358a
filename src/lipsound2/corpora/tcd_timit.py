"""TCD-TIMIT (Harte & Gillen 2015), volunteers and lip speakers seen from straight ahead -> clips with transcripts."""

import re
from collections.abc import Iterator
from pathlib import Path

from lipsound2.corpora.clip import Clip, split_by_hash
from lipsound2.corpora.layouts import unlike
from lipsound2.corpora.splits import with_splits
from lipsound2.corpora.transcripts import Transcripts
from lipsound2.corpora.tree import AUDIO_SUFFIXES, Tree
from lipsound2.media import VIDEO_SUFFIXES

TEST_VOLUNTEERS = (
    *("08F", "09F", "15F", "18M", "25M", "28M", "33F", "34M", "36F"),
    *("41M", "44F", "45F", "49F", "54M", "55F", "56M", "58F"),
)
"""The volunteers of the published speaker-independent test set."""
_SPEAKER = re.compile(r"\d\d[MFT]|Lipspkr\d", re.IGNORECASE)
_TIMES = re.compile(r"^\d+ \d+ ")
"""First and last sample, before what is said, in the prompts of TIMIT."""


def read_tcd_timit(root: Path) -> Iterator[Clip]:
    """Yield the clips of the straight camera, speaker by speaker.

    They are `SPEAKER/Clips/straightcam/NAME.mp4` below `volunteers`, `lipspeakers` or the folder itself, with
    `NAME.txt` and, where it is, `NAME.wav` beside. Of the volunteers the 17 of the published test set are tested and
    one in twenty of the others is held out for validation; sentences of the lip speakers are drawn by name.

    Raises:
        DataError: There is no such folder, or no clip in it.
    """
    tree, transcripts = Tree(root), Transcripts()
    clips = [clip for speaker in _speakers(root, tree) for clip in _clips(tree, speaker, transcripts)]
    if not clips:
        raise unlike("tcd-timit", root)
    tree.report()
    transcripts.report()
    yield from with_splits(root, clips)


def _speakers(root: Path, tree: Tree) -> list[Path]:
    groups = [folder for folder in tree.folders(root) if folder.name.lower() in ("volunteers", "lipspeakers")]
    places = [root.resolve().parent] if _SPEAKER.fullmatch(root.resolve().name) else [*groups, root]
    found = {folder.name: folder for place in places for folder in tree.folders(place)}
    if places[0] == root.resolve().parent:
        found = {root.resolve().name: root}
    return [found[name] for name in sorted(found) if _SPEAKER.fullmatch(name)]


def _clips(tree: Tree, speaker: Path, transcripts: Transcripts) -> Iterator[Clip]:
    for above in (*(folder for folder in tree.folders(speaker) if folder.name.lower() == "clips"), speaker):
        for folder in tree.folders(above):
            if folder.name.lower() == "straightcam":
                sounds = tree.files(folder, AUDIO_SUFFIXES)
                for stem, video in tree.files(folder, VIDEO_SUFFIXES).items():
                    said = transcripts.read(video.with_suffix(".txt"))
                    said = _TIMES.sub("", said) if said else None
                    split = _split(speaker.name, stem)
                    yield Clip(f"{speaker.name}/{stem}", video, speaker.name, split, said, sounds.get(stem))


def _split(speaker: str, sentence: str) -> str:
    if speaker.lower().startswith("lip"):
        return split_by_hash(sentence.lower())
    return "test" if speaker.upper() in TEST_VOLUNTEERS else split_by_hash(speaker.upper(), 0.05, 0.0)
