"""A stream of columns -> windows that overlap, of each of which only the core counts."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Window(NamedTuple):
    """Some columns and which of them count.

    Attributes:
        columns: The core with its context to either side, shorter at the ends of the stream.
        core: Place of the core in it.
    """

    columns: Float[Tensor, "rows columns"]
    core: slice


def windows(pieces: Iterable[Float[Tensor, "rows _"]], size: int, context: int) -> Iterator[Window]:
    """Cut a stream into windows as soon as there is enough of it, holding only what is still needed.

    Args:
        pieces: The stream, in pieces of any length.
        size: Columns of a core, the last of which is shorter.
        context: Columns to either side of it.
    """
    held: Tensor | None = None
    done = 0
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece], dim=1)
        while held.shape[1] - done >= size + context:
            yield Window(held[:, : done + size + context], slice(done, done + size))
            cut = max(0, done + size - context)
            held, done = held[:, cut:], done + size - cut
    while held is not None and held.shape[1] > done:
        stop = min(done + size, held.shape[1])
        yield Window(held[:, : stop + context], slice(done, stop))
        cut = max(0, stop - context)
        held, done = held[:, cut:], stop - cut
