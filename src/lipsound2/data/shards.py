"""Samples -> WebDataset tar shards, and an index for random access."""

import io
import json
import os
import shutil
import struct
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from lipsound2.corpora.clip import SPLITS
from lipsound2.data.sample import Sample, Wave, decode_crops, decode_wave
from lipsound2.errors import DataError, LipSoundError, guard
from lipsound2.runtime.atomic import atomic_path
from lipsound2.runtime.names import sample_key
from lipsound2.runtime.remote import exists, is_remote, read, url_of

INDEX_NAME = "index.jsonl"
_COMMON = ("speaker", "split")
_MOST = 1 << 63
REPAIR = "run the same prepare again, which replaces damaged shards; joined or generated folders are written again"


class Members(Mapping[str, tuple[int, int]]):
    """For each suffix of a sample, the offset and the size of its content; of a million samples in little memory.

    Args:
        places: The same as any mapping.
    """

    __slots__ = ("_places", "_suffixes")

    def __init__(self, places: Mapping[str, tuple[int, int]]) -> None:
        self._suffixes = _shared(tuple(map(sys.intern, places)))
        self._places = struct.pack(f"<{2 * len(places)}Q", *chain.from_iterable(places.values()))

    def __getitem__(self, suffix: str) -> tuple[int, int]:
        if suffix not in self._suffixes:
            raise KeyError(suffix)
        offset, size = struct.unpack_from("<QQ", self._places, 16 * self._suffixes.index(suffix))
        return offset, size

    def __iter__(self) -> Iterator[str]:
        return iter(self._suffixes)

    def __len__(self) -> int:
        return len(self._suffixes)


_shared = cache(lambda names: names)
"""The first tuple of those that are equal."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Location and metadata of a sample.

    Attributes:
        key: Its WebDataset key.
        shard: File name of its shard.
        members: For each suffix, the offset and the size of its content in bytes.
        meta: Contents of its JSON file.
    """

    key: str
    shard: str
    members: Mapping[str, tuple[int, int]]
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
                members[suffix] = (tar.offset - _padded(len(data)), len(data))
            entries.append(Entry(sample.key, path.name, members, sample.meta))
    return entries


def clip_of(meta: dict[str, object]) -> str:
    """Return the id of the clip that a sample is, or is a part of."""
    return str(meta.get("clip", meta.get("id")))


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield the samples of a small shard that `write_shard` wrote."""
    with tarfile.open(path) as tar:
        for key, members in groupby(tar, lambda info: info.name.rpartition(".")[0]):
            files = {info.name.rpartition(".")[2]: read.read() for info in members if (read := tar.extractfile(info))}
            yield Sample(key, files, json.loads(files["json"]))


def link_shard(source: Path, target: Path) -> None:
    """Make a shard appear in another folder: as a hard link where the file system has them, else as a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def read_member(folder: Path, entry: Entry, suffix: str) -> bytes:
    """Read one file of one sample.

    Raises:
        DataError: The shard is missing or shorter than the index says, or has no such file of the sample.
    """
    path = folder / entry.shard
    if suffix not in entry.members:
        raise DataError(f"{path} holds no {suffix} of the clip {entry.meta.get('id', entry.key)}", REPAIR)
    offset, size = entry.members[suffix]
    if is_remote(folder):
        return _read_stored(path, offset, size)
    try:
        with path.open("rb") as file:
            if offset + size > file.seek(0, io.SEEK_END):
                raise DataError(f"{path} is shorter than its index says", REPAIR)
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", REPAIR) from error


def _read_stored(path: Path, offset: int, size: int) -> bytes:
    """Read a part of a shard in an object store."""
    data = read(path, offset, size)
    if len(data) < size:
        raise DataError(f"{url_of(path)} is shorter than its index says", REPAIR)
    return data


def read_wave(folder: Path, entry: Entry) -> Wave:
    """Read the audio of a sample.

    Raises:
        DataError: It is damaged.
    """
    with reading(folder, entry):
        return decode_wave(read_member(folder, entry, "flac"))


def read_crops(folder: Path, entry: Entry, channels: int) -> UInt8[Tensor, "frames channels 160 160"]:
    """Read the face of a prepared clip, in grey (1 channel) or colour (3)."""
    with reading(folder, entry):
        pixels = decode_crops(read_member(folder, entry, "mp4"), "gray" if channels == 1 else "rgb24")
    crops = torch.from_numpy(pixels)
    return crops[:, None] if channels == 1 else crops.permute(0, 3, 1, 2)


@contextmanager
def reading(folder: Path, entry: Entry) -> Iterator[None]:
    """Name shard and clip in whatever goes wrong while a sample is decoded.

    Raises:
        DataError: In its place.
    """
    path = folder / entry.shard
    try:
        with guard(path):
            yield
    except LipSoundError as error:
        if error.hint == REPAIR:
            raise
        raise DataError(
            f"{path}: the clip {entry.meta.get('id', entry.key)} is damaged ({error.message})",
            f"delete {path} and run the same prepare again, which replaces it",
        ) from error


def whole(folder: Path, entries: Iterable[Entry]) -> bool:
    """Return whether a shard's size and the places of its files are those of its entries."""
    end = 0
    ordered = list(entries)
    try:
        with (folder / ordered[0].shard).open("rb") as file:
            for entry in ordered:
                for offset, size in entry.members.values():
                    file.seek(offset - tarfile.BLOCKSIZE)
                    header = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
                    if header.size != size:
                        return False
                    end = max(end, offset + _padded(size))
            records = -(-(end + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE)
            return file.seek(0, io.SEEK_END) == records * tarfile.RECORDSIZE
    except (OSError, tarfile.TarError):
        return False


def read_shard(path: Path) -> list[Entry]:
    """List the entries of a shard without its index.

    Raises:
        DataError: The shard is damaged or truncated.
    """
    members: dict[str, dict[str, tuple[int, int]]] = {}
    metas: dict[str, dict[str, object]] = {}
    try:
        with guard(path), tarfile.open(path) as tar:
            for info in tar:
                key, _, suffix = info.name.rpartition(".")
                members.setdefault(key, {})[suffix] = (info.offset_data, info.size)
                reader = tar.extractfile(info) if suffix == "json" else None
                if reader:
                    metas[key] = json.loads(reader.read())
    except (LipSoundError, ValueError) as error:
        raise DataError(f"{path} is damaged", REPAIR) from error
    entries = [Entry(key, path.name, members[key], metas.get(key, {})) for key in members]
    if entries and not whole(path.parent, entries):
        raise DataError(f"{path} is truncated", REPAIR)
    return entries


def to_lines(records: Iterable[Entry] | Iterable[dict[str, object]]) -> str:
    """Write records as JSON, one a line."""
    return "".join(json.dumps(_plain(record), ensure_ascii=False, sort_keys=True) + "\n" for record in records)


def _plain(record: Entry | dict[str, object]) -> dict[str, object]:
    if isinstance(record, dict):
        return record
    members = dict(record.members)
    return {"key": record.key, "shard": record.shard, "members": members, "meta": record.meta}


def entries_from_lines(lines: Iterable[str]) -> list[Entry]:
    """Read what `to_lines` wrote, line by line."""
    decode = json.JSONDecoder().decode
    return [_entry(decode(line)) for line in lines if line not in ("", "\n")]


def _entry(row: dict[str, Any]) -> Entry:
    """Read an entry, whose shard must be a file of the folder and whose members must lie within it.

    Raises:
        TypeError, ValueError: It is none.
    """
    key, shard, meta = row["key"], row["shard"], row["meta"]
    members = {suffix: (offset, size) for suffix, (offset, size) in row["members"].items()}
    if not (isinstance(key, str) and isinstance(shard, str) and isinstance(meta, dict)):
        raise TypeError("key and shard are text, meta is an object")
    if shard in ("", ".", "..") or "/" in shard or "\\" in shard:
        raise ValueError(f"a shard is a file of the folder, not {shard!r}")
    if meta.get("split") not in SPLITS:
        raise ValueError(f"{key} is of the split {meta.get('split')!r}, one of {', '.join(SPLITS)} was expected")
    if not (isinstance(meta.get("id"), str) and isinstance(meta.get("speaker"), str)):
        raise TypeError(f"{key} has no id or no speaker")
    fps, rate = meta.get("fps"), meta.get("sample_rate")
    if not (type(fps) is int and fps > 0 and type(rate) is int and rate > 0):
        raise ValueError(f"{key} has no fps or no sample_rate")
    for offset, size in members.values():
        if not (type(offset) is int and type(size) is int and 0 <= offset < _MOST and 0 <= size < _MOST):
            raise ValueError(f"the files of {key} have no valid places")
    # What many entries have in common is kept once.
    known = {sys.intern(name): sys.intern(value) if name in _COMMON else value for name, value in meta.items()}
    return Entry(key, sys.intern(shard), Members(members), known)


def read_index(folder: Path) -> list[Entry]:
    """Read the index of a prepared folder.

    Raises:
        DataError: The folder was not prepared, or not to its end.
    """
    path = folder / INDEX_NAME
    if not exists(path):
        raise DataError(f"{folder} holds no {INDEX_NAME}", "make it with: lipsound2 prepare CORPUS FOLDER -o OUTPUT")
    try:
        if is_remote(path):
            entries = entries_from_lines(read(path).decode().split("\n"))
        else:
            with path.open(encoding="utf-8", newline="\n") as lines:
                entries = entries_from_lines(lines)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}", REPAIR) from error
    return _distinct(entries)


def _distinct(entries: list[Entry]) -> list[Entry]:
    """Make the keys of clips unique, which those of older versions are not."""
    counts = Counter(entry.key for entry in entries)
    if len(counts) == len(entries):
        return entries
    return [
        replace(entry, key=sample_key(str(entry.meta.get("id", entry.key)))) if counts[entry.key] > 1 else entry
        for entry in entries
    ]


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
