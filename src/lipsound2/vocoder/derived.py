"""Parameters -> what inference computes of them, kept for as long as they stay the same."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Derived(Generic[T]):
    """A value that is computed of parameters once, and again when one of them has changed in any way.

    While gradients are recorded it is computed at every call, so that they reach the parameters.
    """

    def __init__(self) -> None:
        self._sources: list[Tensor] = []
        self._versions: list[int] = []
        self._value: T | None = None

    def of(self, compute: Callable[[], T], sources: Sequence[Tensor]) -> T:
        """Return the value that follows from the sources as they are now."""
        if torch.is_grad_enabled():
            return compute()
        if self._value is None or not self._fresh(sources):
            # The sources are held, so that no other tensor takes their place in memory.
            self._sources = [source.detach() for source in sources]
            self._versions = [source._version for source in sources]
            self._value = compute()
        return self._value

    def _fresh(self, sources: Sequence[Tensor]) -> bool:
        return [source._version for source in sources] == self._versions and all(
            new.data_ptr() == old.data_ptr() and new.dtype == old.dtype
            for new, old in zip(sources, self._sources, strict=True)
        )
