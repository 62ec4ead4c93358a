"""Log posteriors -> text by connectionist temporal classification (Graves et al. 2006): paths, words.

A path has a symbol for each frame; runs of one symbol collapse to a character, blanks are removed.
"""

from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from lipsound2.recognizer.config import TimingConfig
from lipsound2.text.alphabet import Alphabet, Word

Frames = Float32[np.ndarray, "frames symbols"]
"""Log-posteriors of one wave."""
LONGEST_PAUSE = 0.6
"""Seconds between two characters of a word, at most."""


class Span(NamedTuple):
    """A character on a path: its symbol, its frames from `start` to before `end`, its highest log posterior."""

    symbol: int
    start: int
    end: int
    score: float


def best_path(values: Frames) -> list[int]:
    """Return the most probable symbol of each frame."""
    return values.argmax(axis=1).tolist()


def align(values: Frames, symbols: list[int]) -> list[int]:
    """Return the most probable path of these symbols (Viterbi alignment).

    Raises:
        ValueError: There are too few frames for them.
    """
    frames, blank = len(values), values.shape[1] - 1
    states = [blank, *(state for symbol in symbols for state in (symbol, blank))]
    # A blank may be skipped only between two different characters.
    skips = np.array([i > 1 and state not in (blank, states[i - 2]) for i, state in enumerate(states)])
    emitted = values[:, states]
    score = np.full(len(states), -np.inf)
    score[:2] = emitted[0, :2]
    back = np.zeros((frames, len(states)), np.int8)
    for frame in range(1, frames):
        one = np.concatenate([[-np.inf], score[:-1]])
        two = np.where(skips, np.concatenate([[-np.inf, -np.inf], score[:-2]])[: len(states)], -np.inf)
        choices = np.stack([score, one, two])
        back[frame] = choices.argmax(axis=0)
        score = choices.max(axis=0) + emitted[frame]
    state = max(range(max(0, len(states) - 2), len(states)), key=lambda i: score[i])
    if not np.isfinite(score[state]):
        raise ValueError(f"{len(symbols)} symbols do not fit into {frames} frames")
    path = [state]
    for frame in range(frames - 1, 0, -1):
        state -= int(back[frame, state])
        path.append(state)
    return [states[state] for state in reversed(path)]


def spans(values: Frames, path: list[int]) -> list[Span]:
    """List the characters of a path."""
    blank = values.shape[1] - 1
    found = []
    start = 0
    for symbol, run in groupby(path):
        end = start + len(list(run))
        if symbol != blank:
            found.append(Span(symbol, start, end, float(values[start:end, symbol].max())))
        start = end
    return found


def collapse(path: list[int], blank: int) -> list[int]:
    """Return the symbols of a path."""
    return [symbol for symbol, _ in groupby(path) if symbol != blank]


def words(
    values: Frames, path: list[int], alphabet: Alphabet, seconds_per_frame: float, timing: TimingConfig
) -> list[Word]:
    """Return the words of a path with their times and confidences.

    A word lasts from its first to its last character, extended by `timing` as far as its
    neighbours allow. Its confidence is the geometric mean of its characters' highest posteriors.
    """
    groups = _word_spans(spans(values, path), alphabet, round(LONGEST_PAUSE / seconds_per_frame))
    edges = [(group[0].start * seconds_per_frame, group[-1].end * seconds_per_frame) for group in groups]
    total = len(values) * seconds_per_frame
    found = []
    for i, (group, (start, end)) in enumerate(zip(groups, edges, strict=True)):
        before = _middle(edges[i - 1][1], start, timing) if i else 0.0
        after = _middle(end, edges[i + 1][0], timing) if i + 1 < len(edges) else total
        found.append(
            Word(
                alphabet.decode(span.symbol for span in group),
                max(start - timing.before, before),
                min(end + timing.after, after),
                float(np.exp(np.mean([span.score for span in group]))),
            )
        )
    return found


def _middle(end: float, start: float, timing: TimingConfig) -> float:
    """Split the time between two words in proportion to their extensions."""
    wanted = timing.before + timing.after
    return end + (start - end) * (timing.after / wanted if wanted else 0.5)


def _word_spans(characters: list[Span], alphabet: Alphabet, longest: int) -> list[list[Span]]:
    """Split characters at separators, and at pauses of more than `longest` frames: separators are missed there."""
    if not alphabet.separator:
        return [[span] for span in characters]
    space = alphabet.characters.index(alphabet.separator)
    words: list[list[Span]] = [[]]
    for span in characters:
        if span.symbol == space or (words[-1] and span.start - words[-1][-1].end > longest):
            words.append([])
        if span.symbol != space:
            words[-1].append(span)
    return [word for word in words if word]
