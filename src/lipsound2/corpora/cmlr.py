"""CMLR, Chinese Mandarin Lip Reading (Zhao et al. 2019), in its published layout -> clips with Chinese transcripts."""

import re
from collections.abc import Iterator
from pathlib import Path

from lipsound2.corpora.clip import SPLITS, Clip
from lipsound2.corpora.layouts import unlike
from lipsound2.corpora.lists import of_lists, read_lists
from lipsound2.corpora.splits import with_splits
from lipsound2.corpora.transcripts import Transcripts
from lipsound2.corpora.tree import AUDIO_SUFFIXES, Tree
from lipsound2.errors import DataError
from lipsound2.media import VIDEO_SUFFIXES

_SPEAKER = re.compile(r"s\d{1,2}")
_NAME = re.compile(r"(s\d{1,2})[/\\_](\d{8})[/\\_](section_\d+_\d+\.\d+_\d+\.\d+)")
"""A clip in the lists, however its parts are joined."""
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_SPACE = re.compile(r"\s+")


def read_cmlr(root: Path) -> Iterator[Clip]:
    """Yield the clips of CMLR in the published split, speaker by speaker.

    Videos are `video/s1/DATE/section_*.mp4`; `text` and `audio` hold files of the same names. The split is that of
    `train.csv`, `val.csv` and `test.csv`; clips that none of them names are left out. Spaces are taken out of the
    transcripts: each character is a word.

    Raises:
        DataError: There is no such folder, no clip in it, or no list.
    """
    clips = list(_clips(root))
    if not clips:
        raise unlike("cmlr", root)
    lists = {split: path for split in SPLITS if (path := root / f"{split}.csv").is_file()}
    listed = read_lists(lists, _names)
    if not listed:
        raise DataError(
            f"{root} has no train.csv, val.csv and test.csv, which say how CMLR is split",
            "they are on the page where CMLR is downloaded from",
        )
    known = {clip.id: clip for clip in clips}
    if not known.keys() & listed.keys():
        raise DataError(f"the lists of {root} name none of its clips, such as {clips[0].id}")
    yield from with_splits(root, of_lists(root, known, listed))


def _clips(root: Path) -> Iterator[Clip]:
    tree, transcripts = Tree(root), Transcripts(joined)
    videos = root / "video" if (root / "video").is_dir() else root
    for speaker in sorted(tree.folders(videos), key=lambda folder: (len(folder.name), folder.name)):
        for date in tree.folders(speaker) if _SPEAKER.fullmatch(speaker.name) else ():
            below = Path(speaker.name, date.name)
            sounds = tree.files(root / "audio" / below, AUDIO_SUFFIXES)
            for stem, video in tree.files(date, VIDEO_SUFFIXES).items():
                said = transcripts.read(root / "text" / below / f"{stem}.txt")
                yield Clip(f"{below.as_posix()}/{stem}", video, speaker.name, "train", said, sounds.get(stem))
    tree.report()
    transcripts.report()


def joined(text: str) -> str | None:
    r"""Return the first line of a text that holds Chinese, without spaces.

    >>> joined("0.12 0.32\n你 好\n")
    '你好'
    """
    line = next((line for line in text.splitlines() if _HAN.search(line)), None)
    return _SPACE.sub("", line) if line else None


def _names(text: str) -> Iterator[str]:
    return ("/".join(match.groups()) for match in _NAME.finditer(text))
