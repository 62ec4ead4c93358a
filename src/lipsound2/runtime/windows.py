"""A sequence longer than what is looked at at once -> windows of it: the one place where their borders are found.

evenly      windows of one size, spread evenly, neighbours sharing so much or more: lips, which are cross-faded
striding    windows that share exactly so much, the last shorter: Griffin-Lim; sharing nothing: teacher forcing
cores       windows of which the core counts, with context to either side: Jasper, and as `windows` WaveGlow
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")


class Core(NamedTuple):
    """Borders of a window: it reaches from `first` to `last`, its core from `start` to `stop`."""

    first: int
    start: int
    stop: int
    last: int


class Excerpt(NamedTuple):
    """Some columns and which of them count.

    Attributes:
        columns: The core with its context to either side, shorter at the ends of the stream.
        core: Place of the core in it.
    """

    columns: Float[Tensor, "rows columns"]
    core: slice


def evenly(length: int, size: int, overlap: int) -> list[int]:
    """Return the starts of as few windows as possible, spread evenly, neighbours sharing `overlap` or more.

    >>> evenly(200, 100, 20)
    [0, 50, 100]
    """
    if not 0 <= overlap < size:
        raise ValueError(f"an overlap of 0..{size - 1} frames was expected, got {overlap}")
    if length <= size:
        return [0]
    count = -(-(length - overlap) // (size - overlap))
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def striding(length: int, size: int, overlap: int = 0) -> range:
    """Return the starts of windows, neighbours sharing `overlap` exactly; the last window is shorter.

    >>> list(striding(200, 100, 20))
    [0, 80, 160]
    """
    return range(0, max(length - overlap, 1), size - overlap)


def cut(items: Iterable[T], starts: Iterable[int], size: int) -> Iterator[tuple[int, list[T]]]:
    """Cut a stream into windows that begin at `starts`, forgetting each item once no window needs it."""
    held: list[T] = []
    first = 0
    stream = iter(items)
    for start in starts:
        del held[: start - first]
        first = start
        while len(held) < size:
            held.append(next(stream))
        yield start, held


def cores(length: int, size: int, context: int) -> Iterator[Core]:
    """Yield windows whose cores follow each other; a sequence of no length has one.

    >>> [core.last for core in cores(10, 4, 1)]
    [5, 9, 10]
    """
    for start in striding(length, size):
        yield _core(start, length, size, context)


def windows(pieces: Iterable[Float[Tensor, "rows _"]], size: int, context: int) -> Iterator[Excerpt]:
    """Cut a stream into windows as soon as there is enough of it, holding only what is still needed.

    Args:
        pieces: The stream, in pieces of any length.
        size: Columns of a core, the last of which is shorter.
        context: Columns to either side of it.
    """
    held: Tensor | None = None
    first = start = 0
    for piece in chain(pieces, [None]):
        if piece is not None:
            held = piece if held is None else torch.cat([held, piece], dim=1)
        if held is None:
            return
        length = first + held.shape[1]
        while start < length if piece is None else start + size + context <= length:
            core = _core(start, length, size, context)
            columns = held[:, core.first - first : core.last - first]
            yield Excerpt(columns, slice(core.start - core.first, core.stop - core.first))
            start = core.stop
            needed = max(0, start - context)
            held, first = held[:, needed - first :], needed


def _core(start: int, length: int, size: int, context: int) -> Core:
    stop = min(start + size, length)
    return Core(max(0, start - context), start, stop, min(stop + context, length))
