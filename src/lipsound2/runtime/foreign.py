"""A file that is not what was expected -> what it is, by its first bytes, and what to do about it."""

import json
from pathlib import Path
from typing import NamedTuple

_HEAD = 4096
_FETCH = "fetch it again"


class Foreign(NamedTuple):
    """What a file is, as the end of a sentence that begins with its name, and a hint."""

    what: str
    hint: str


_PAGE = Foreign("is a web page (HTML)", "download the file itself, not the page about it")
_STARTS: tuple[tuple[bytes, Foreign], ...] = (
    (
        b"version https://git-lfs.github.com",
        Foreign("is a Git LFS pointer, not the file itself", "run git lfs pull where it came from"),
    ),
    (b"PK\x03\x04", Foreign("is a zip archive, or a checkpoint of PyTorch", "unpack it, or import a checkpoint")),
    (b"\x1f\x8b", Foreign("is compressed by gzip", "unpack it")),
    (b"BZh", Foreign("is compressed by bzip2", "unpack it")),
    (b"\xfd7zXZ\0", Foreign("is compressed by xz", "unpack it")),
    (b"\x28\xb5\x2f\xfd", Foreign("is compressed by zstd", "unpack it")),
    (b"7z\xbc\xaf\x27\x1c", Foreign("is a 7z archive", "unpack it")),
    (b"Rar!", Foreign("is a rar archive", "unpack it")),
    (b"\x89HDF", Foreign("is an HDF5 file", _FETCH)),
    (b"\x93NUMPY", Foreign("is an array of NumPy", _FETCH)),
    (b"GGUF", Foreign("is a GGUF file", _FETCH)),
    (b"%PDF", Foreign("is a PDF document", _FETCH)),
    (b"\x89PNG", Foreign("is an image (PNG)", _FETCH)),
    (b"\xff\xd8\xff", Foreign("is an image (JPEG)", _FETCH)),
    (b"RIFF", Foreign("is an audio or video file (RIFF)", _FETCH)),
    (b"\x1aE\xdf\xa3", Foreign("is a video file (Matroska)", _FETCH)),
    (b"fLaC", Foreign("is an audio file (FLAC)", _FETCH)),
    (b"ID3", Foreign("is an audio file (MP3)", _FETCH)),
    (b"OggS", Foreign("is an audio file (Ogg)", _FETCH)),
    (b"\x08\x03\x12", Foreign("is an ONNX model", _FETCH)),
    (b"<?xml", Foreign("is an XML document", "download the file itself, not an answer of the server")),
)


def describe(path: Path) -> str:
    """Return what a file is, as the end of a sentence that begins with its name: `is a web page (HTML)`."""
    return look(path).what


def look(path: Path) -> Foreign:
    """Return what a file is by its first bytes, never by its name."""
    if path.is_dir():
        return Foreign("is a folder", "give the file in it")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        return Foreign(f"cannot be read ({error.strerror})", "see that it is there and may be read")
    return _of_bytes(head, size)


def _of_bytes(head: bytes, size: int) -> Foreign:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not size:
        return Foreign("is empty", _FETCH)
    if text[:15].lower().startswith((b"<!doctype html", b"<html", b"<head", b"<!--")):
        return _PAGE
    found = next((foreign for start, foreign in _STARTS if head.startswith(start)), None)
    return found or _by_shape(head, text, size)


def _by_shape(head: bytes, text: bytes, size: int) -> Foreign:
    if b"/annex/objects/" in head[:512]:
        return Foreign("is a git-annex pointer, not the file itself", "run git annex get where it came from")
    if head[257:262] == b"ustar":
        return Foreign("is a tar archive", "unpack it")
    if head[4:8] == b"ftyp":
        return Foreign("is a video file (MP4)", _FETCH)
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return Foreign("is a pickle, which may run code and is never opened", "take weights as safetensors")
    if not head.strip(b"\0"):
        return Foreign("holds zeros only: a download that was not finished", _FETCH)
    if head[8:9] == b"{":
        return _safetensors(head, size)
    try:
        head[:1024].decode("utf-8")
    except UnicodeDecodeError:
        return Foreign("is of an unknown kind", _FETCH)
    return Foreign("is a text (JSON)" if text[:1] in (b"{", b"[") else "is a text", _FETCH)


def _safetensors(head: bytes, size: int) -> Foreign:
    """Compare the length of a safetensors file with what its header announces."""
    length = int.from_bytes(head[:8], "little")
    if 8 + length > size:
        return Foreign(f"is a safetensors file that is cut off after {size:,} bytes", _FETCH)
    try:
        listed = json.loads(head[8 : 8 + length]) if 8 + length <= len(head) else {}
        end = max((int(tensor["data_offsets"][1]) for tensor in listed.values() if "data_offsets" in tensor), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return Foreign("is a safetensors file with a damaged header", _FETCH)
    if 8 + length + end > size:
        return Foreign(f"is a safetensors file that is cut off: {size:,} of {8 + length + end:,} bytes", _FETCH)
    return Foreign("is a safetensors file", _FETCH)
