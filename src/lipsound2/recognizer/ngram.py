"""Transcripts -> an n-gram language model of words, kept as an ARPA file as KenLM and SRILM write it.

Probabilities are interpolated by Witten and Bell's method (Bell, Cleary & Witten 1990): a word
that never followed a history gets the share of distinct words among all that followed it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lipsound2.errors import DataError
from lipsound2.runtime.atomic import write_text

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
_LOWEST = -99.0
"""ARPA's logarithm of 0."""

Gram = tuple[str, ...]


class NGram:
    """A back-off n-gram model.

    Args:
        scores: Log10 probability of the last word of each n-gram given those before it.
        backoffs: Log10 back-off weight of each n-gram that is a history.
    """

    def __init__(self, scores: Mapping[Gram, float], backoffs: Mapping[Gram, float]) -> None:
        self.scores = dict(scores)
        self.backoffs = dict(backoffs)
        self.order = max(map(len, self.scores), default=0)
        if self.order == 0:
            raise DataError("a language model without words")

    @property
    def words(self) -> list[str]:
        """Return the vocabulary, sorted."""
        return sorted(gram[0] for gram in self.scores if len(gram) == 1 and gram[0] not in (START, END, UNKNOWN))

    def score(self, history: Sequence[str], word: str) -> float:
        """Return the natural log-probability of a word (or `END`) after others, the first of them `START`."""
        known = word if (word,) in self.scores else UNKNOWN
        gram: Gram = (*history, known)[-self.order :]
        weight = 0.0
        while gram not in self.scores and len(gram) > 1:
            weight += self.backoffs.get(gram[:-1], 0.0)
            gram = gram[1:]
        return math.log(10) * (weight + self.scores.get(gram, _LOWEST))


def train_ngram(sentences: Iterable[Sequence[str]], order: int = 3) -> NGram:
    """Estimate a smoothed n-gram model from sentences, given as lists of words."""
    followers: dict[Gram, Counter[str]] = defaultdict(Counter)
    for sentence in sentences:
        padded = [START, *sentence, END]
        for place in range(1, len(padded)):
            for length in range(min(order, place + 1)):
                followers[tuple(padded[place - length : place])][padded[place]] += 1
    probabilities: dict[Gram, float] = {}
    backoffs: dict[Gram, float] = {}
    # One unknown word gets the Witten-Bell probability mass of unseen words.
    lowest = {(UNKNOWN,): 1.0}
    for history in sorted(followers, key=len):
        counts = followers[history]
        total, kinds = counts.total(), len(counts)
        left = kinds / (total + kinds)
        backoffs[history] = left
        for word, count in counts.items():
            shorter = probabilities[(*history[1:], word)] if history else lowest.get((word,), 0.0)
            probabilities[(*history, word)] = count / (total + kinds) + left * shorter
        if not history:
            probabilities[(UNKNOWN,)] = left
    scores = {gram: math.log10(probability) for gram, probability in probabilities.items()}
    scores[(START,)] = _LOWEST
    return NGram(scores, {gram: math.log10(weight) for gram, weight in backoffs.items() if gram})


def write_arpa(path: Path, model: NGram) -> None:
    """Write a model as an ARPA file."""
    grams = {n: sorted(gram for gram in model.scores if len(gram) == n) for n in range(1, model.order + 1)}
    lines = ["\\data\\", *(f"ngram {n}={len(found)}" for n, found in grams.items()), ""]
    for n, found in grams.items():
        lines.append(f"\\{n}-grams:")
        for gram in found:
            backoff = f"\t{model.backoffs[gram]:.7g}" if gram in model.backoffs else ""
            lines.append(f"{model.scores[gram]:.7g}\t{' '.join(gram)}{backoff}")
        lines.append("")
    write_text(path, "\n".join([*lines, "\\end\\", ""]))


def read_arpa(path: Path) -> NGram:
    """Read an ARPA file.

    Raises:
        DataError: The file is missing or not in ARPA format.
    """
    scores: dict[Gram, float] = {}
    backoffs: dict[Gram, float] = {}
    order = 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.endswith("-grams:") and line.startswith("\\"):
                order = int(line[1 : -len("-grams:")])
            elif order and line.strip() and not line.startswith("\\"):
                score, *rest = line.split()
                gram = tuple(rest[:order])
                scores[gram] = float(score)
                if len(rest) > order:
                    backoffs[gram] = float(rest[order])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not an ARPA language model: {error}") from error
    if not scores:
        raise DataError(f"{path} is not an ARPA language model: it holds no n-grams")
    return NGram(scores, backoffs)
