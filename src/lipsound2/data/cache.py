"""A clip's number and how to decode it -> the decoded clip, kept in memory as long as there is room."""

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor

T = TypeVar("T", bound=tuple[Tensor, ...])


class ClipCache(Generic[T]):
    """Keep the first clips that fit and decode the others each time.

    An epoch asks for every clip once, in a new order: to forget the oldest would forget all.

    Args:
        gb: Room in GB.
    """

    def __init__(self, gb: float) -> None:
        self._clips: dict[int, T] = {}
        self._left = gb * 1e9

    def get(self, index: int, decode: Callable[[int], T]) -> T:
        """Give a clip, a tuple of tensors, decoded now or earlier."""
        if index in self._clips:
            return self._clips[index]
        clip = decode(index)
        size = sum(tensor.nbytes for tensor in clip)
        if size <= self._left:
            self._left -= size
            self._clips[index] = clip
        return clip
