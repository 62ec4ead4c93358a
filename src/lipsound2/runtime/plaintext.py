"""A text file as people's programs write it -> its text, whatever its encoding."""

import codecs
from pathlib import Path
from typing import NamedTuple

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
FALLBACK = "Windows-1252"
"""Encoding of texts that have no byte order mark and are no UTF-8."""


class PlainText(NamedTuple):
    """What a file says, with line feeds, and whether its encoding was guessed."""

    text: str
    guessed: bool


def read_text(path: Path) -> PlainText:
    """Read UTF-8 with or without byte order mark, UTF-16, else Windows-1252.

    Raises:
        OSError: The file cannot be read.
    """
    text, guessed = _decoded(path.read_bytes())
    return PlainText(text.replace("\r\n", "\n").replace("\r", "\n"), guessed)


def _decoded(data: bytes) -> tuple[str, bool]:
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None) or _unmarked(data)
    try:
        return data.decode(encoding), False
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252"), True
    except UnicodeDecodeError:
        return data.decode("latin-1"), True


def _unmarked(data: bytes) -> str:
    """Return which UTF-16 a text is, by the zero bytes of its spaces and letters; None for others."""
    if data and not len(data) % 2 and b"\0" in data:
        return "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
    return "utf-8"
