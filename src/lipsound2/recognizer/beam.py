"""Log posteriors -> the most probable text, with a language model and a word list: CTC prefix beam search.

After Hannun et al. 2014 (first-pass decoding, algorithm 1). It is implemented here because the known
libraries do not install: KenLM has no wheels, flashlight-text none for Python 3.12 and newer, and
pyctcdecode wants numpy below 2.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lipsound2.recognizer.ctc import Frames
from lipsound2.recognizer.ngram import END, START, NGram
from lipsound2.text.alphabet import Alphabet

NEVER = -math.inf


@dataclass(frozen=True)
class BeamConfig:
    """Settings of the beam search.

    Attributes:
        width: Beam width.
        weight: Weight of the language model's natural log-probability.
        bonus: Word insertion bonus, against the language model's bias towards few words.
        least: Natural log-posterior below which a symbol is pruned.
        closed: Whether the vocabulary is limited to words of the language model.
    """

    width: int = 32
    weight: float = 0.5
    bonus: float = 1.0
    least: float = -9.0
    closed: bool = True


class _Prefix(NamedTuple):
    """A hypothesis: its symbols, its complete words, the characters of the current word, its language-model score."""

    symbols: tuple[int, ...] = ()
    history: tuple[str, ...] = (START,)
    word: str = ""
    language: float = 0.0


class _Mass(NamedTuple):
    """Log-probability of all paths of a prefix that end in a blank, and of those that do not."""

    blank: float = NEVER
    other: float = NEVER

    @property
    def total(self) -> float:
        return _add(self.blank, self.other)


class Beam:
    """Beam search for an alphabet and a language model.

    Args:
        alphabet: Symbols of the posteriors.
        language: Language model; None uses the posteriors only.
        config: Settings.
    """

    def __init__(self, alphabet: Alphabet, language: NGram | None, config: BeamConfig) -> None:
        self.alphabet = alphabet
        self.language = language
        self.config = config
        listed = language.words if language and config.closed else []
        self.listed = frozenset(listed)
        self.beginnings = frozenset(word[:end] for word in listed for end in range(len(word) + 1))

    def search(self, values: Frames) -> list[int]:
        """Return the symbols of the best hypothesis."""
        beam = {_Prefix(): _Mass(blank=0.0)}
        for frame in values:
            beam = self._step(beam, frame)
        ended = {prefix: mass.total + score for prefix, mass in beam.items() if (score := self._end(prefix)) > NEVER}
        return list(max(ended, key=lambda prefix: ended[prefix]).symbols) if ended else []

    def _step(self, beam: dict[_Prefix, _Mass], frame: np.ndarray) -> dict[_Prefix, _Mass]:
        blank = self.alphabet.blank
        tried = [
            (symbol, float(frame[symbol])) for symbol in np.flatnonzero(frame[:blank] > self.config.least).tolist()
        ]
        grown: dict[_Prefix, _Mass] = {}
        for prefix, mass in beam.items():
            last = prefix.symbols[-1] if prefix.symbols else None
            stay = mass.other + float(frame[last]) if last is not None else NEVER
            _put(grown, prefix, _Mass(mass.total + float(frame[blank]), stay))
            for symbol, score in tried:
                longer = self._extend(prefix, symbol)
                if longer is not None:
                    # A repeated character needs a blank in between.
                    before = mass.blank if symbol == last else mass.total
                    _put(grown, longer, _Mass(other=before + score))
        best = sorted(grown.items(), key=lambda item: -(item[1].total + item[0].language))
        return dict(best[: self.config.width])

    def _extend(self, prefix: _Prefix, symbol: int) -> _Prefix | None:
        """Return the prefix with one more character, or None if no word allows it."""
        character, separator = self.alphabet.characters[symbol], self.alphabet.separator
        symbols = (*prefix.symbols, symbol)
        if character == separator:
            return self._ended(prefix)._replace(symbols=symbols) if prefix.word and self._may_end(prefix) else None
        longer = prefix._replace(symbols=symbols, word=prefix.word + character)
        if self.listed and longer.word not in self.beginnings:
            return None
        return longer if separator else self._ended(longer)

    def _may_end(self, prefix: _Prefix) -> bool:
        return not self.listed or prefix.word in self.listed

    def _ended(self, prefix: _Prefix) -> _Prefix:
        """Score the current word."""
        history = (*prefix.history, prefix.word)
        language = prefix.language + self._weighted(prefix.history, prefix.word, self.config.bonus)
        return prefix._replace(history=history[-self._memory :], word="", language=language)

    def _end(self, prefix: _Prefix) -> float:
        """Return the language-model score of a prefix as a complete text, or `NEVER` if it ends within a word."""
        if prefix.word and not self._may_end(prefix):
            return NEVER
        whole = self._ended(prefix) if prefix.word else prefix
        return whole.language + self._weighted(whole.history, END)

    def _weighted(self, history: tuple[str, ...], word: str, bonus: float = 0.0) -> float:
        return self.config.weight * self.language.score(history, word) + bonus if self.language else 0.0

    @property
    def _memory(self) -> int:
        return max(1, self.language.order - 1) if self.language else 1


def _put(beam: dict[_Prefix, _Mass], prefix: _Prefix, mass: _Mass) -> None:
    old = beam.get(prefix, _Mass())
    beam[prefix] = _Mass(_add(old.blank, mass.blank), _add(old.other, mass.other))


def _add(left: float, right: float) -> float:
    """Add two probabilities given by their logs."""
    high, low = max(left, right), min(left, right)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))
