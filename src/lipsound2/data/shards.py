"""Samples -> WebDataset tar shards that plain tar reads, and an index that reads them at random."""

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from lipsound2.atomic import atomic_path
from lipsound2.data.sample import Sample
from lipsound2.errors import DataError

INDEX_NAME = "index.jsonl"


@dataclass(frozen=True)
class Entry:
    """Where a sample lies and what it holds.

    Attributes:
        key: Its WebDataset key.
        shard: File name of its shard.
        members: For each suffix, the offset and the size of its content in bytes.
        meta: What its JSON file says.
    """

    key: str
    shard: str
    members: dict[str, tuple[int, int]]
    meta: dict[str, object]


def write_shard(path: Path, samples: Iterable[Sample]) -> list[Entry]:
    """Write samples as one tar file; the same samples always give the same bytes."""
    entries = []
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            members = {}
            for suffix, data in sorted(sample.files.items()):
                info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                members[suffix] = (tar.offset - padded, len(data))
            entries.append(Entry(sample.key, path.name, members, sample.meta))
    return entries


def read_member(folder: Path, entry: Entry, suffix: str) -> bytes:
    """Read one file of one sample.

    Raises:
        DataError: The shard is missing or shorter than the index says.
    """
    offset, size = entry.members[suffix]
    path = folder / entry.shard
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "run prepare again") from error
    if len(data) != size:
        raise DataError(f"{path} is shorter than its index says", "it was damaged or replaced; run prepare again")
    return data


def to_lines(records: Iterable[Entry] | Iterable[dict[str, object]]) -> str:
    """Write records as JSON, one a line."""
    plain = (record if isinstance(record, dict) else asdict(record) for record in records)
    return "".join(json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n" for record in plain)


def entries_from_lines(text: str) -> list[Entry]:
    """Read what `to_lines` wrote."""
    rows = [json.loads(line) for line in text.splitlines()]
    return [
        Entry(row["key"], row["shard"], {k: (o, n) for k, (o, n) in row["members"].items()}, row["meta"])
        for row in rows
    ]


def read_index(folder: Path) -> list[Entry]:
    """Read the index of a prepared folder.

    Raises:
        DataError: The folder was not prepared, or not to its end.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise DataError(f"{folder} holds no {INDEX_NAME}", "make it with: lipsound2 prepare CORPUS FOLDER -o OUTPUT")
    try:
        return entries_from_lines(path.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}", "run prepare again") from error
