"""A folder of videos, with transcripts beside them where there are any -> clips."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lipsound2.corpora.clip import SPLITS, Clip, split_by_hash
from lipsound2.corpora.layouts import LAYOUTS, recognize
from lipsound2.corpora.splits import match_splits
from lipsound2.corpora.transcripts import Transcripts
from lipsound2.errors import DataError
from lipsound2.media import VIDEO_SUFFIXES
from lipsound2.runtime.folders import walk
from lipsound2.runtime.names import clip_id
from lipsound2.runtime.terminal import warn


def read_folder(root: Path) -> Iterator[Clip]:
    """Yield every video below a folder, by name.

    The speaker is the folder a video lies in. A transcript is the text file of the same name. The
    split is that of `splits.csv`, else a folder `train`, `val` or `test` on the way to the video,
    else a fixed 90/5/5 draw by name. Linked folders count as if they were there.

    Raises:
        DataError: There is no such folder, or no video in it.
    """
    videos = find_videos(root)
    if not videos:
        raise DataError(f"no video below {root}", f"known suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}")
    known = recognize(root)
    if known:
        title = LAYOUTS[known].title
        warn(f"{root} looks like {title}, whose speakers and splits are known to: lipsound2 prepare {known} {root}")
    ids = _ids(root, videos)
    splits = match_splits(root, list(ids.values()))
    transcripts = Transcripts()
    for video, name in ids.items():
        folders = clip_id(video.relative_to(root)).split("/")[:-1]
        named = next((folder for folder in folders if folder in SPLITS), None)
        speakers = [folder for folder in folders if folder not in SPLITS]
        yield Clip(
            id=name,
            video=video,
            speaker=speakers[-1] if speakers else clip_id(Path(root.resolve().name)),
            split=splits.get(name) or named or split_by_hash(name),
            transcript=transcripts.read(video.with_suffix(".txt")),
        )
    transcripts.report()


def find_videos(root: Path) -> list[Path]:
    """List the video files below a folder by name; hidden files and folders are passed over.

    Linked folders are entered, but none within itself; links to nothing are listed, for whoever opens them to report.

    Raises:
        DataError: There is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"no such folder: {root}")
    unread: list[OSError] = []
    videos = sorted(path for _, files in walk(root, unread.append) for path in files if _is_video(path))
    if unread:
        count = "1 folder" if len(unread) == 1 else f"{len(unread)} folders"
        warn(f"{count} below {root} could not be read, such as {unread[0].filename} ({unread[0].strerror})")
    return videos


def _is_video(path: Path) -> bool:
    """Return whether a path may be a video: no pipe and no device, but perhaps a link to nothing."""
    return path.suffix.lower() in VIDEO_SUFFIXES and (path.is_symlink() or path.is_file())


def _ids(root: Path, videos: list[Path]) -> dict[Path, str]:
    """Name each video by its path without suffix; those that differ in their suffix alone keep it."""
    stems = {video: clip_id(video.relative_to(root).with_suffix("")) for video in videos}
    shared = {stem for stem, count in Counter(stems.values()).items() if count > 1}
    return {video: clip_id(video.relative_to(root)) if stem in shared else stem for video, stem in stems.items()}
