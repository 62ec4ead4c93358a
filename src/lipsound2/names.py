"""Names of inputs -> names of files that every file system takes."""

import os
import unicodedata
from hashlib import sha1

LONGEST = 255
"""Bytes of a file's name that the usual file systems hold."""
ROOM = len("-face9.json")
"""Bytes kept for what is put behind the name of a result."""
_RESERVED = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)})
_REFUSED = frozenset('<>:"/\\|?*') | {chr(code) for code in range(32)}


def fit(name: str) -> str:
    """Shorten a name that leaves no room for an ending; a digest of the whole keeps it unlike others."""
    whole = os.fsencode(name)
    if len(whole) + ROOM <= LONGEST:
        return name
    digest = sha1(whole).hexdigest()[:10]
    return f"{whole[: LONGEST - ROOM - len(digest) - 1].decode('utf-8', 'ignore')}~{digest}"


def fold(name: str) -> str:
    """Return what is the same for names that some file systems take for one: case and composed letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def file_name(name: str, windows: bool | None = None) -> str:
    """Return a name, such as a clip's id, as the name of a file: on Windows without what it refuses.

    >>> file_name("12:30", windows=True), file_name("con.1", windows=True), file_name("12:30", windows=False)
    ('12%3A30', '%con.1', '12:30')
    """
    if not (os.name == "nt" if windows is None else windows):
        return name
    safe = "".join(f"%{ord(letter):02X}" if letter in _REFUSED else letter for letter in name)
    stem = safe.rstrip(". ")
    safe = stem + "".join(f"%{ord(letter):02X}" for letter in safe[len(stem) :])
    return f"%{safe}" if safe.split(".")[0].strip().lower() in _RESERVED else safe
