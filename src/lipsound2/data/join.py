"""Several prepared folders -> one, to train on all of them together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lipsound2.data.shards import INDEX_NAME, Entry, link_shard, read_index, to_lines
from lipsound2.errors import DataError, StorageError
from lipsound2.runtime.atomic import atomic_path


def join(folders: Sequence[Path], output: Path) -> int:
    """Join prepared folders; shards are hard links where the file system has them.

    Args:
        folders: What `lipsound2 prepare` wrote, each once.
        output: The new folder.

    Returns:
        The number of samples.

    Raises:
        DataError: Two samples have the same key.
        StorageError: `output` exists or cannot be written.
    """
    if output.exists():
        raise StorageError(f"{output} exists", "choose another folder with -o")
    joined: dict[str, Entry] = {}
    with atomic_path(output) as temporary:
        temporary.mkdir()
        for number, folder in enumerate(folders, 1):
            entries = read_index(folder)
            again = sorted(joined.keys() & {entry.key for entry in entries})
            if again:
                raise DataError(
                    f"{folder} holds {again[0]}, as does another folder",
                    "give each folder once; different clips of one name need folders of their own in their corpora",
                )
            if len({entry.key for entry in entries}) < len(entries):
                raise DataError(f"{folder} names a clip twice in its index", "prepare it again into another folder")
            for shard in sorted({entry.shard for entry in entries}):
                link_shard(folder / shard, temporary / f"{number}-{shard}")
            joined |= {entry.key: replace(entry, shard=f"{number}-{entry.shard}") for entry in entries}
        if not joined:
            raise DataError("there is no sample in any of the folders", "see their failures.jsonl")
        (temporary / INDEX_NAME).write_text(to_lines(joined.values()), encoding="utf-8")
    return len(joined)
