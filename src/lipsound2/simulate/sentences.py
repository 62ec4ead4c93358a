"""The name of a grammar and a number -> one of its sentences."""

import csv
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lipsound2.corpora.splits import SPLITS_NAME, read_splits
from lipsound2.errors import ConfigError, DataError, guard
from lipsound2.runtime.plaintext import FALLBACK, read_text
from lipsound2.runtime.terminal import warn

GRAMMARS = ("grid", "letters", "digits", "english")
GRID_KINDS = ("command", "colour", "preposition", "letter", "digit", "adverb")
LETTERS_KINDS = ("preposition", "letter", "digit") * 3
ENGLISH_KINDS = ("determiner", "adjective", "noun", "verb", "determiner", "noun")
ENGLISH_ENDINGS = (("time",), ("place", "determiner", "noun"))
DIGITS = 5
SENTENCES_PER_SPEAKER = 1000


class Word(NamedTuple):
    """One word and its kind, which tells the letter "a" from the article."""

    text: str
    kind: str


class Sentence(NamedTuple):
    """Words to say; two sentences of the same words have the same name."""

    name: str
    words: tuple[Word, ...]

    @property
    def transcript(self) -> str:
        """The words in lower case with single spaces."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Grammar:
    """All sentences that can be said, counted from 0 to `size` - 1."""

    size: int
    sentence: Callable[[int], Sentence]

    def for_speaker(self, seed: int, speaker: int) -> list[int]:
        """Choose the numbers of a speaker's sentences, none twice, in the order in which they are said."""
        count = min(self.size, SENTENCES_PER_SPEAKER)
        return np.random.default_rng([seed, speaker]).choice(self.size, count, replace=False).tolist()


@lru_cache
def vocabulary() -> dict[str, dict[str, tuple[str, str]]]:
    """Read the words that ship with the package: kind -> word -> (American, British) pronunciation."""
    table: dict[str, dict[str, tuple[str, str]]] = {}
    text = (resources.files("lipsound2.simulate") / "words.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        table.setdefault(row["kind"], {})[row["word"]] = (row["us"], row["gb"])
    return table


def grammar(name: str, text: Path | None = None) -> Grammar:
    """Return a grammar by name, or the one whose sentences are the lines of the file `text`.

    Raises:
        ConfigError: There is no such grammar.
        DataError: The text holds no sentence.
    """
    if text is not None:
        sentences = _lines(text)
        return Grammar(len(sentences), sentences.__getitem__)
    if name == "grid":
        return Grammar(_count(GRID_KINDS), _grid)
    if name == "letters":
        return Grammar(_count(LETTERS_KINDS), _letters)
    if name == "digits":
        return Grammar(10**DIGITS, _digits)
    if name == "english":
        return Grammar(sum(_count(ENGLISH_KINDS + ending) for ending in ENGLISH_ENDINGS), _english)
    raise ConfigError(f"unknown grammar {name!r}", f"one of {', '.join(GRAMMARS)}, or a text file with --text")


def held_out_by(corpus: Path) -> dict[str, str]:
    """Read which sentences another corpus holds out for `val` or `test`, by their names, from its table of splits.

    Raises:
        DataError: The corpus has no such table.
    """
    splits = read_splits(corpus)
    if not splits:
        raise DataError(f"no table of splits in {corpus}", f"a file {SPLITS_NAME} with the columns clip and split")
    found: dict[str, str] = {}
    for clip, split in splits.items():
        name = clip.rpartition("/")[2]
        if split != "train" and found.get(name) != "test":
            found[name] = split
    return found


def _count(kinds: Sequence[str]) -> int:
    return int(np.prod([len(vocabulary()[kind]) for kind in kinds], dtype=np.int64))


def _decode(number: int, kinds: Sequence[str]) -> tuple[Word, ...]:
    """Take one word of each kind, the last kind counting fastest."""
    words: list[Word] = []
    for kind in reversed(kinds):
        choices = list(vocabulary()[kind])
        number, place = divmod(number, len(choices))
        words.insert(0, Word(choices[place], kind))
    return tuple(words)


def _grid(number: int) -> Sentence:
    words = _decode(number, GRID_KINDS)
    codes = [str(list(vocabulary()["digit"]).index(w.text)) if w.kind == "digit" else w.text[0] for w in words]
    return Sentence("".join(codes).replace("0", "z"), words)


def _letters(number: int) -> Sentence:
    return _named("l", _decode(number, LETTERS_KINDS))


def _digits(number: int) -> Sentence:
    names = list(vocabulary()["digit"])
    digits = f"{number:0{DIGITS}d}"
    return Sentence(f"d{digits}", tuple(Word(names[int(digit)], "digit") for digit in digits))


def _english(number: int) -> Sentence:
    for ending in ENGLISH_ENDINGS:
        kinds = ENGLISH_KINDS + ending
        if number < _count(kinds):
            break
        number -= _count(kinds)
    return _named("e", _decode(number, kinds))


def _named(prefix: str, words: tuple[Word, ...]) -> Sentence:
    digest = hashlib.sha256(" ".join(word.text for word in words).encode()).hexdigest()
    return Sentence(prefix + digest[:8], words)


def _lines(path: Path) -> list[Sentence]:
    with guard(path):
        text, guessed = read_text(path)
    if guessed:
        warn(f"{path} is not UTF-8, read as {FALLBACK}")
    found: dict[str, Sentence] = {}
    for line in text.lower().replace("’", "'").splitlines():
        words = tuple(Word(word, "text") for word in re.findall(r"[^\W_]+(?:'[^\W_]+)*", line))
        if words:
            sentence = _named("t", words)
            found[sentence.name] = sentence
    if not found:
        raise DataError(f"{path} holds no sentence", "one English sentence a line")
    return list(found.values())
