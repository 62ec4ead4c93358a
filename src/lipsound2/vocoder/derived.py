"""Parameters -> values derived from them, cached until the parameters change."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Derived(Generic[T]):
    """A value that is derived from parameters, computed again when any of them changes.

    With gradients enabled it is computed at every call, so that they reach the parameters.
    """

    def __init__(self) -> None:
        self._sources: list[Tensor] = []
        self._versions: list[int] = []
        self._value: T | None = None

    def of(self, compute: Callable[[], T], sources: Sequence[Tensor]) -> T:
        """Return the value for the present sources."""
        if torch.is_grad_enabled():
            return compute()
        if self._value is None or not self._fresh(sources):
            # Keep references to the sources, so that no other tensor gets their address.
            self._sources = [source.detach() for source in sources]
            self._versions = [source._version for source in sources]
            self._value = compute()
        return self._value

    def _fresh(self, sources: Sequence[Tensor]) -> bool:
        return [source._version for source in sources] == self._versions and all(
            new.data_ptr() == old.data_ptr() and new.dtype == old.dtype
            for new, old in zip(sources, self._sources, strict=True)
        )
