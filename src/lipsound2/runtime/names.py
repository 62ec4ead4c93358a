"""A clip's id -> its WebDataset key, and a file name that every system takes; different ids never share either."""

import os
import re
from hashlib import sha1
from pathlib import Path

LONGEST = 120
"""Bytes of a part of a file name; some file systems take 143, and a suffix is to follow."""
_MARK = "~"
"""Sets off a digest; keys hold none, so that no key looks like a marked one."""
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE)
"""Names that Windows keeps for devices."""


def is_folder(name: str | Path) -> bool:
    """Return whether there is a folder of that name; a text that cannot be a name is none."""
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        return False


def clip_id(path: Path) -> str:
    """Return a relative path as an id: slashes on every system, bytes that are no UTF-8 as escapes."""
    return printable(path.as_posix())


def printable(text: str) -> str:
    """Write the bytes of a file's name that are no UTF-8, which no text file can hold, as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def sample_key(clip: str) -> str:
    """Turn a clip's id into a WebDataset key, which ends at its first dot.

    Letters, digits, `_`, `-` and `/` stay as they are; all else is escaped as in a URL.

    >>> sample_key("anna/clip.1")
    'anna/clip%2E1'
    """
    return re.sub(r"[^\w/-]", _escaped, clip)


def file_name(clip: str) -> str:
    """Turn a clip's id into a relative path without suffix that any file system can hold beside all others.

    What a file system might not tell apart, keeps for itself or finds too long carries a digest.

    >>> file_name("anna/clip")
    'anna/clip'
    >>> file_name("nul")
    'nul~d97929'
    """
    return "/".join(_safe(part) for part in sample_key(clip).split("/"))


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _safe(part: str) -> str:
    plain = re.sub("%[0-9A-F]{2}", "", part)  # the escapes are always in capitals
    if part and len(os.fsencode(part)) <= LONGEST and plain == plain.casefold() and not _DEVICE.fullmatch(part):
        return part
    digest = sha1(part.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    cut = os.fsencode(part)[: LONGEST - len(digest) - 1].decode("utf-8", "ignore")
    return f"{cut}{_MARK}{digest}"
