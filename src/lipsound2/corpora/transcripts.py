"""The text files beside videos -> transcripts; what is odd about them is counted and reported once."""

import re
from collections.abc import Callable
from pathlib import Path

from lipsound2.runtime.plaintext import FALLBACK, read_text
from lipsound2.runtime.terminal import warn

_LRS = re.compile(r"\s*text:(?P<text>.*)", re.IGNORECASE)
"""How the files of LRS2 and LRS3 begin; their confidence and the times of words follow on lines of their own."""
_MARKER = re.compile(r"\{[^{}]*\}")
"""Noises and languages in LRS2, such as `{NS}`."""


class Transcripts:
    """Reads transcripts and remembers those that were not plain UTF-8 or could not be read.

    Args:
        parse: A text -> what is said in it, or None; by default `transcript`.
    """

    def __init__(self, parse: Callable[[str], str | None] | None = None) -> None:
        self._parse = parse or transcript
        self._guessed: list[Path] = []
        self._unread: list[Path] = []

    def read(self, path: Path) -> str | None:
        """Return what a file says, or None where there is no file or nothing in it."""
        try:
            text, guessed = read_text(path)
        except FileNotFoundError:
            return None
        except OSError:
            self._unread.append(path)
            return None
        if guessed:
            self._guessed.append(path)
        return self._parse(text)

    def report(self) -> None:
        """Warn once of each kind of oddity."""
        if self._guessed:
            warn(f"{_count(self._guessed)} not UTF-8, read as {FALLBACK}, such as {self._guessed[0]}")
        if self._unread:
            warn(f"{_count(self._unread)} not readable, such as {self._unread[0]}; these clips have none")


def transcript(text: str) -> str | None:
    r"""Return what is said: all of a text on one line, of a text in the layout of LRS only its first line.

    >>> transcript("Text:  HELLO WORLD\nConf:  4\n")
    'hello world'
    """
    found = _LRS.match(text)
    if found:
        text = _MARKER.sub(" ", found["text"]).lower()
    return " ".join(text.replace("\0", " ").split()) or None


def _count(paths: list[Path]) -> str:
    return "1 transcript was" if len(paths) == 1 else f"{len(paths)} transcripts were"
