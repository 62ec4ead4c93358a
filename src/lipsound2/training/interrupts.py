"""Ctrl-C and requests to end -> a flag, so that training ends between two steps with a checkpoint."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Note the first signal in a block; a second one acts at once, as it would have without.

    Args:
        told: Called with the first signal's name.

    Attributes:
        caught: The signal, if there was one.
    """

    def __init__(self, told: Callable[[str], None]) -> None:
        self.told = told
        self.caught: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._catch) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def act(self) -> None:
        """Let the signal that was noted do what it does outside of the block."""
        self._restore()
        if self.caught:
            signal.raise_signal(self.caught)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = signal.Signals(number)
        self._restore()
        self.told(self.caught.name)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
