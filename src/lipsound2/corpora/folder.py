"""A folder of videos, with transcripts beside them where there are any -> clips."""

from collections.abc import Iterator
from pathlib import Path

from lipsound2.corpora.clip import SPLITS, Clip, read_splits, split_by_hash
from lipsound2.errors import DataError
from lipsound2.media import VIDEO_SUFFIXES


def read_folder(root: Path) -> Iterator[Clip]:
    """Yield every video below a folder, by name.

    The speaker is the folder a video lies in. A transcript is the text file of the same name. The
    split is that of `splits.csv`, else a folder `train`, `val` or `test` on the way to the video,
    else a fixed 90/5/5 draw by name.

    Raises:
        DataError: There is no such folder, or no video in it.
    """
    if not root.is_dir():
        raise DataError(f"no such folder: {root}")
    splits = read_splits(root)
    videos = find_videos(root)
    if not videos:
        raise DataError(f"no video below {root}", f"known suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}")
    for video in videos:
        clip_id = video.relative_to(root).with_suffix("").as_posix()
        folders = video.relative_to(root).parts[:-1]
        named = next((folder for folder in folders if folder in SPLITS), None)
        speakers = [folder for folder in folders if folder not in SPLITS]
        yield Clip(
            id=clip_id,
            video=video,
            speaker=speakers[-1] if speakers else root.resolve().name,
            split=splits.get(clip_id) or named or split_by_hash(clip_id),
            transcript=_transcript(video),
        )


def find_videos(root: Path) -> list[Path]:
    """List the video files below a folder by name; hidden files and folders are passed over."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )


def _transcript(video: Path) -> str | None:
    path = video.with_suffix(".txt")
    if not path.is_file():
        return None
    try:
        return " ".join(path.read_text(encoding="utf-8").split()) or None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text") from error
