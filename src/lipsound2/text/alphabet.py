"""Text <-> the symbols of an alphabet; words with their times; how far two texts differ."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lipsound2.errors import ConfigError, DataError

ENGLISH = " abcdefghijklmnopqrstuvwxyz'"
"""The alphabet of NVIDIA's published Jasper, in its order."""


class Word(NamedTuple):
    """A recognised word.

    Attributes:
        text: Its letters.
        start, end: In seconds.
        confidence: 0..1.
        stretch: Number of the stretch in which it is said, where a video has several; they are shown apart.
        speaker: Who says it, where several do.
    """

    text: str
    start: float
    end: float
    confidence: float
    stretch: int = 0
    speaker: str = ""


@dataclass(frozen=True)
class Transcript:
    """What was read.

    Attributes:
        words: In order; those of one speaker do not overlap.
        note: Why there are no words, or fewer.
        separator: What stands between words: a space, or nothing in scripts that have none.
        language: Its code of two letters, if the recogniser knows it.
        doubtful: Mean confidence below which words may be invented, by what the recogniser was tried on.
    """

    words: tuple[Word, ...] = ()
    note: str | None = None
    separator: str = " "
    language: str = ""
    doubtful: float = 0.0

    @property
    def text(self) -> str:
        """The words put together."""
        return self.separator.join(word.text for word in self.words)


@dataclass(frozen=True)
class Alphabet:
    """The characters a recogniser writes; symbol i is character i, and one more symbol is CTC's blank.

    Where a space is among them it parts words; otherwise each character is a word.
    """

    characters: str = ENGLISH

    def __post_init__(self) -> None:
        if not self.characters or len(set(self.characters)) != len(self.characters):
            raise ConfigError(f"an alphabet of different characters was expected, got {self.characters!r}")

    @property
    def blank(self) -> int:
        """The symbol after the last character."""
        return len(self.characters)

    @property
    def separator(self) -> str:
        """A space, or nothing if the alphabet has none."""
        return " " if " " in self.characters else ""

    def encode(self, text: str) -> list[int]:
        """Turn text, made clean, into symbols.

        Raises:
            DataError: It holds a letter or digit that the alphabet lacks.
        """
        return [self.characters.index(character) for character in self.clean(text)]

    def decode(self, symbols: Iterable[int]) -> str:
        """Turn symbols into text."""
        return "".join(self.characters[symbol] for symbol in symbols)

    def words(self, text: str) -> list[str]:
        """Split clean text into words."""
        return text.split() if self.separator else list(text)

    def clean(self, text: str) -> str:
        """Bring text into the alphabet: its case, single spaces, no punctuation that it lacks.

        >>> Alphabet().clean("Set  white; it’s L.A.")
        "set white it's l a"

        Raises:
            DataError: It holds a letter or digit that the alphabet lacks.
        """
        text = unicodedata.normalize("NFC", text).replace("’", "'")
        if self.characters == self.characters.lower():
            text = text.lower()
        kept = "".join(character if self._known(character) else " " for character in text)
        return self.separator.join(kept.split())

    def _known(self, character: str) -> bool:
        if character in self.characters:
            return True
        if unicodedata.category(character)[0] in "PSZC":
            return False
        raise DataError(
            f"the transcript holds {character!r}, which is not in the alphabet {self.characters!r}",
            "spell it out, or train with an alphabet that has it",
        )


class ErrorRates(NamedTuple):
    """Word and character error rates over all texts together."""

    wer: float
    cer: float


def error_rates(pairs: Iterable[tuple[str, str]]) -> ErrorRates:
    """Compute WER and CER of hypotheses.

    Args:
        pairs: Reference and hypothesis, both normalised.
    """
    edits = [0, 0]
    sizes = [0, 0]
    for said, read in pairs:
        for unit, (left, right) in enumerate(((said.split(), read.split()), (list(said), list(read)))):
            edits[unit] += edit_distance(left, right)
            sizes[unit] += len(left)
    return ErrorRates(*(count / max(size, 1) for count, size in zip(edits, sizes, strict=True)))


def edit_distance(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Count the fewest insertions, deletions and substitutions that make one of the other (Levenshtein)."""
    numbers = {item: number for number, item in enumerate(dict.fromkeys([*left, *right]))}
    others = np.array([numbers[item] for item in right])
    steps = np.arange(len(right) + 1)
    row = steps
    for i, item in enumerate(left, 1):
        edits = np.concatenate([[i], np.minimum(row[1:] + 1, row[:-1] + (others != numbers[item]))])
        row = np.minimum.accumulate(edits - steps) + steps  # one more insertion for each step to the right
    return int(row[-1])
