"""The person's clips -> a prepared folder of their own, some of them held out.

chosen/
  *.tar         the shards of the prepared folder, as hard links where the file system has them
  index.jsonl   the chosen clips with their splits
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha1
from pathlib import Path

from lipsound2.data.shards import INDEX_NAME, Entry, link_shard, to_lines
from lipsound2.runtime.atomic import atomic_path

TEST, VAL = (0.15, 3, 20), (0.08, 2, 12)
"""Share of the clips that is held out to measure the result and to end the training in time; fewest and most."""


def choose_clips(
    prepared: Path, entries: Sequence[Entry], transcripts: Mapping[str, str], speaker: str, output: Path, keep: bool
) -> list[Entry]:
    """Write the index of the chosen clips, and link their shards.

    Args:
        prepared: What `lipsound2 prepare` wrote.
        entries: The chosen ones of its clips.
        transcripts: By key.
        speaker: Name of the person.
        output: The new folder.
        keep: Whether the clips keep the splits that they have, else some are held out.
    """
    splits = {} if keep else hold_out([entry.key for entry in entries])
    chosen = [_changed(entry, splits, transcripts, speaker) for entry in entries]
    text = to_lines(chosen)
    index = output / INDEX_NAME
    if not index.is_file() or index.read_text(encoding="utf-8") != text:
        with atomic_path(output) as temporary:
            temporary.mkdir()
            for shard in sorted({entry.shard for entry in chosen}):
                link_shard(prepared / shard, temporary / shard)
            (temporary / INDEX_NAME).write_text(text, encoding="utf-8", newline="\n")
    return chosen


def hold_out(keys: Sequence[str]) -> dict[str, str]:
    """Draw which clips are held out, for good: by a digest of their names."""
    order = sorted(keys, key=lambda key: sha1(key.encode("utf-8", "surrogateescape")).digest())
    test, val = (max(least, min(most, round(share * len(keys)))) for share, least, most in (TEST, VAL))
    names = ["test"] * test + ["val"] * val
    return dict(zip(order, names, strict=False))


def _changed(entry: Entry, splits: Mapping[str, str], transcripts: Mapping[str, str], speaker: str) -> Entry:
    split = splits.get(entry.key, "train") if splits else entry.meta["split"]
    meta = entry.meta | {"split": split, "speaker": speaker, "transcript": transcripts.get(entry.key)}
    return replace(entry, meta=meta)
