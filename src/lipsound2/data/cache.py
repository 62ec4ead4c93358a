"""A clip's index and a decoder -> the decoded clip, cached in memory as long as there is room."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from torch import Tensor

T = TypeVar("T", bound=tuple[Tensor, ...])


class ClipCache(Generic[T]):
    """Cache the first clips that fit and decode the others each time.

    An epoch asks for every clip once, in a new order: evicting the oldest would never give a hit.

    A copy that is sent to another process begins empty.

    Args:
        gb: Room in GB.
    """

    def __init__(self, gb: float) -> None:
        self._clips: dict[int, T] = {}
        self._room = self._left = gb * 1e9

    def __len__(self) -> int:
        return len(self._clips)

    def __getstate__(self) -> dict[str, object]:
        return {"_clips": {}, "_room": self._room, "_left": self._room}

    def get(self, index: int, decode: Callable[[int], T]) -> T:
        """Return a clip, a tuple of tensors, decoded now or earlier."""
        if index in self._clips:
            return self._clips[index]
        clip = decode(index)
        self._keep(index, clip)
        return clip

    def fill(self, count: int, decode: Callable[[int], T]) -> None:
        """Decode clips 0 to `count` - 1 on all cores until one does not fit."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for index, clip in enumerate(pool.map(decode, range(count))):
                if not self._keep(index, clip):
                    pool.shutdown(wait=False, cancel_futures=True)
                    return

    def share(self, count: int) -> float:
        """Return the share of so many clips that fits, if all are as large as those that are cached."""
        held = self._room - self._left
        return min(1.0, self._room * len(self) / (held * count)) if held else 0.0

    def _keep(self, index: int, clip: T) -> bool:
        size = sum(tensor.nbytes for tensor in clip)
        if size > self._left:
            return False
        self._left -= size
        self._clips[index] = clip
        return True
