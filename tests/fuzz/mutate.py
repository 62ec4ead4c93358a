"""The bytes of a file -> bytes that a broken disk, a cut transfer or a malicious hand could have made of them.

Every draw comes from one `random.Random`, so that a case is named by its seed and its number.
"""

import io
import json
import math
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

INTEGERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
NUMBERS = (0, -1, 1, 3, 0.5, 2**15, 2**31, 2**53, -(2**63), 10**30, 1e308, math.nan, math.inf, -math.inf)
TEXTS = ("", "\0", "../../../etc/passwd", "a" * 5000, "[/x]", "\ud800", "\u202e\u0301", "NaN", "s1", "-1", "%s{0}")
FOURCCS = (b"moov", b"trak", b"mdat", b"free", b"stsz", b"stco", b"stts", b"ctts", b"elst", b"tkhd", b"esds", b"avcC")

Mutator = Callable[[bytearray, random.Random], bytearray]


def mutate(name: str, data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Change a file: by its structure, which the suffix of `name` tells, or blindly.

    Args:
        name: Of the file.
        data: What it holds.
        rng: Draws all that is drawn.
        others: Contents of other files, parts of which may be spliced in.
    """
    structured = STRUCTURED.get(name.rpartition(".")[2])
    if structured and rng.random() < 0.7:
        changed = data
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            changed = structured(changed, rng)
        return changed
    return blind(data, rng, others)


def blind(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Change bytes without a look at what they mean."""
    if others and rng.random() < 0.05:
        other = rng.choice(others)
        return data[: _place(data, rng)] + other[_place(other, rng) :]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 6))):
        if changed:
            changed = rng.choice(HARSH if rng.random() < 0.15 else GENTLE)(changed, rng)
    return bytes(changed)


def _place(data: bytes | bytearray, rng: random.Random) -> int:
    """Draw an offset; headers, which decide most, are hit as often as all the rest."""
    return rng.randrange(min(len(data), 1024) if rng.random() < 0.3 else len(data)) if data else 0


def _flip(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 4, 32, 256))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def _overwrite(data: bytearray, rng: random.Random) -> bytearray:
    start = _place(data, rng)
    noise = rng.randbytes(rng.choice((1, 2, 4, 16, 200)))
    data[start : start + len(noise)] = noise
    return data


def _integer(data: bytearray, rng: random.Random) -> bytearray:
    start = _place(data, rng)
    data[start : start + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(INTEGERS))
    return data


def _truncate(data: bytearray, rng: random.Random) -> bytearray:
    return data[: _place(data, rng)]


def _header_only(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.choice((1, 4, 12, 64, 512, 1024))]


def _block(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = _place(data, rng)
    return start, start + rng.choice((1, 4, 16, 188, 512, 4096))


def _remove(data: bytearray, rng: random.Random) -> bytearray:
    start, stop = _block(data, rng)
    return data[:start] + data[stop:]


def _repeat(data: bytearray, rng: random.Random) -> bytearray:
    start, stop = _block(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 1, 3, 50)) + data[stop:]


def _swap(data: bytearray, rng: random.Random) -> bytearray:
    (a, b), (c, d) = sorted((_block(data, rng), _block(data, rng)))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:] if b <= c else data


def _zero(data: bytearray, rng: random.Random) -> bytearray:
    start, stop = _block(data, rng)
    data[start:stop] = bytes(len(data[start:stop]))
    return data


def _box(data: bytearray, rng: random.Random) -> bytearray:
    """Change the size, the name or a number of a box of an MP4 file; of other files, any bytes."""
    found = [place for name in FOURCCS if (place := data.find(name)) >= 4]
    if not found:
        return _integer(data, rng)
    place = rng.choice(found)
    match rng.randrange(3):
        case 0:
            data[place - 4 : place] = struct.pack(">I", rng.choice((*INTEGERS, 8, 16, len(data))))
        case 1:
            data[place : place + 4] = rng.choice(FOURCCS)
        case _:
            start = place + 4 * rng.randrange(1, 12)
            data[start : start + 4] = struct.pack(">I", rng.choice(INTEGERS))
    return data


GENTLE: tuple[Mutator, ...] = (_flip, _flip, _overwrite, _integer, _zero, _box, _box, _swap)
HARSH: tuple[Mutator, ...] = (_truncate, _header_only, _remove, _repeat)
"""Mutations that keep everything else in its place, and those after which most of a file is not found."""


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Change one value of a JSON document, or of one line of JSON lines."""
    lines = data.split(b"\n") if data.count(b"}\n{") else [data]
    chosen = rng.randrange(len(lines))
    try:
        value = json.loads(lines[chosen])
    except ValueError:
        return blind(data, rng)
    lines[chosen] = json.dumps(change_value(value, rng)).encode()
    return b"\n".join(lines)


def change_value(value: Any, rng: random.Random) -> Any:
    """Change one part of plain data: drop, rename, retype, nest, or a number that nobody expects."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[rng.choice(TEXTS)] = changed.pop(key)
            case _:
                changed[key] = change_value(changed[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value[:place] + [value[place]] * rng.choice((2, 100)) + value[place + 1 :]
            case _:
                return [*value[:place], change_value(value[place], rng), *value[place + 1 :]]
    return _another(value, rng)


def _another(value: Any, rng: random.Random) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice((*NUMBERS, -value, value + 1, value * 2, str(value)))
    if rng.random() < 0.05:
        nested: Any = value
        for _ in range(rng.choice((20, 900))):
            nested = [nested]
        return nested
    return rng.choice((None, True, [], {}, [value], {"a": value}, rng.choice(NUMBERS), rng.choice(TEXTS)))


def change_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Change names, types, shapes or offsets in the header of a safetensors file, or the header's length."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length or rng.random() < 0.1:
        return struct.pack("<Q", rng.choice((0, 1, length - 1, length + 8, 2**31, 2**63, 2**64 - 1)) % 2**64) + data[8:]
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return blind(data, rng)
    entry = header.get(rng.choice(list(header))) if header and isinstance(header, dict) else None
    if isinstance(entry, dict) and "dtype" in entry and rng.random() < 0.4:
        entry["dtype"] = rng.choice(("F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I8", "U8", "BOOL", "X"))
    else:
        header = change_value(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def change_lines(data: bytes, rng: random.Random) -> bytes:
    """Change lines of a text file: drop, repeat, swap, reorder, or put another word in the place of one."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[place]
        case 1:
            lines[place:place] = [lines[place]] * rng.choice((1, 100))
        case 2:
            other = rng.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        case 3:
            lines[place] = rng.choice((b"\xff\xfe", b"\xef\xbb\xbf", b"\0", b'"', b",", b"\t")) + lines[place]
        case _:
            words = lines[place].replace(b"\t", b" ").replace(b",", b" ").split(b" ")
            word = str(rng.choice((*NUMBERS, *TEXTS))).encode("utf-8", "surrogatepass")
            lines[place] = lines[place].replace(rng.choice(words) or b"\0", word, 1)
    return b"\n".join(lines)


def change_tar(data: bytes, rng: random.Random) -> bytes:
    """Change one member of a tar archive, packed or not, and keep the archive itself whole."""
    members = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = {info.name: tar.extractfile(info).read() for info in tar if info.isfile()}  # type: ignore[union-attr]
    except (tarfile.TarError, OSError, EOFError):
        pass
    if not members:
        return blind(data, rng)
    _change_member(members, rng)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def change_zip(data: bytes, rng: random.Random) -> bytes:
    """Change one member of a zip archive, such as a checkpoint of torch, and keep the archive itself whole."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError, RuntimeError):
        return blind(data, rng)
    _change_member(members, rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return packed.getvalue()


def _change_member(members: dict[str, bytes], rng: random.Random) -> None:
    pickles = [name for name in members if name.endswith((".pkl", ".ckpt", ".yaml"))]
    name = rng.choice(pickles if pickles and rng.random() < 0.4 else list(members))
    match rng.randrange(8):
        case 0:
            del members[name]
        case 1:
            members[rng.choice(("../../escaped", "/tmp/escaped", "x" * 300))] = members.pop(name)
        case _:
            members[name] = mutate(name, members[name], rng)


STRUCTURED: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": change_json,
    "jsonl": change_json,
    "safetensors": change_safetensors,
    "arpa": change_lines,
    "csv": change_lines,
    "txt": change_lines,
    "align": change_lines,
    "yaml": change_lines,
    "SHA256SUMS": change_lines,
    "tar": change_tar,
    "nemo": change_tar,
    "pt": change_zip,
    "ckpt": change_zip,
}
