"""LRS2 (Afouras et al. 2018) and LRS3-TED in their published layouts -> clips with transcripts."""

from collections.abc import Callable, Iterator
from pathlib import Path

from lipsound2.corpora.clip import SPLITS, Clip, split_by_hash
from lipsound2.corpora.layouts import unlike
from lipsound2.corpora.lists import of_lists, read_lists
from lipsound2.corpora.splits import with_splits
from lipsound2.corpora.transcripts import Transcripts
from lipsound2.corpora.tree import Tree
from lipsound2.errors import DataError
from lipsound2.media import VIDEO_SUFFIXES

VAL = 0.02
"""Share of the talks of LRS3 that is held out for validation, for which there is no published list."""


def read_lrs2(root: Path) -> Iterator[Clip]:
    """Yield the clips of LRS2 in the published split.

    Videos are `main/RECORDING/00001.mp4` and `pretrain/RECORDING/00001.mp4`, in the folder itself or in `mvlrs_v1`,
    each with a `.txt`. The lists `train.txt`, `val.txt` and `test.txt` lie in either folder; clips of `main` that none
    of them names are left out. All of `pretrain` is for training. Speakers are not known: each recording counts as one.

    Raises:
        DataError: There is no such folder, no clip in it, or no list.
    """
    base = root / "mvlrs_v1" if (root / "mvlrs_v1").is_dir() else root
    main, pretrain = (list(_clips(base, part, lambda _: "train")) for part in ("main", "pretrain"))
    if (not main and not pretrain) or (base / "trainval").is_dir():  # of LRS3, whose pretrain looks the same
        raise unlike("lrs2", root)
    lists = _lists([base, root if root != base else base.resolve().parent])
    listed = read_lists(lists, _names) if main else {}
    if main and not listed:
        raise DataError(
            f"{root} has no train.txt, val.txt and test.txt, which say how LRS2 is split",
            "they are on the page where LRS2 is downloaded from",
        )
    kept = of_lists(root, {clip.id.removeprefix("main/"): clip for clip in main}, listed, "of main ")
    yield from with_splits(root, kept + pretrain)


def read_lrs3(root: Path) -> Iterator[Clip]:
    """Yield the clips of LRS3.

    Videos are `pretrain/TALK/00001.mp4`, `trainval/TALK/50001.mp4` and `test/TALK/00001.mp4`, each with a `.txt`, in
    the folder itself or in `lrs3_v0.4`. The test clips are those of `test`; of the other talks a fixed draw of one in
    fifty is held out for validation. Speakers are not known: each talk counts as one.

    Raises:
        DataError: There is no such folder, or no clip in it.
    """
    base = root / "lrs3_v0.4" if (root / "lrs3_v0.4").is_dir() else root
    if (base / "main").is_dir():  # of LRS2, whose pretrain looks the same
        raise unlike("lrs3", root)
    clips = [
        *(
            clip
            for part in ("pretrain", "trainval")
            for clip in _clips(base, part, lambda talk: split_by_hash(talk, VAL, 0.0))
        ),
        *_clips(base, "test", lambda _: "test"),
    ]
    if not clips:
        raise unlike("lrs3", root)
    yield from with_splits(root, clips)


def _clips(base: Path, part: str, split_of: Callable[[str], str]) -> Iterator[Clip]:
    tree, transcripts = Tree(base / part), Transcripts()
    for recording in tree.folders(base / part):
        split = split_of(recording.name)
        for stem, path in tree.files(recording, VIDEO_SUFFIXES).items():
            said = transcripts.read(path.with_suffix(".txt"))
            yield Clip(f"{part}/{recording.name}/{stem}", path, recording.name, split, said)
    tree.report()
    transcripts.report()


def _lists(folders: list[Path]) -> dict[str, Path]:
    """Find the list of each split."""
    places = {split: [folder / f"{split}.txt" for folder in folders] for split in SPLITS}
    return {split: path for split, paths in places.items() if (path := next(filter(Path.is_file, paths), None))}


def _names(text: str) -> Iterator[str]:
    """Yield the clips of a list; what follows a name on its line is left out."""
    return (line.split()[0] for line in text.splitlines() if line.strip())
