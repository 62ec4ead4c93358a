"""The clock of a training -> updates per second, times real time, and share of waiting for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Measure the speed of training since `start`."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start measuring."""
        self._began = time.monotonic()
        self._waited = self._seconds = 0.0
        self._elapsed = self._share = self._speed = self._rate = 0.0
        self._updates = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as waiting for data."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def count(self, seconds: float) -> None:
        """Count seconds of training recordings."""
        self._seconds += seconds

    def look(self, updates: int) -> None:
        """Update the measurements after so many more updates on the device."""
        self._updates += updates
        self._elapsed = max(time.monotonic() - self._began, 1e-9)
        self._rate = self._updates / self._elapsed
        self._speed = self._seconds / self._elapsed
        self._share = self._waited / self._elapsed

    def facts(self) -> dict[str, float]:
        """Return the measurements for `metrics.jsonl`."""
        named = {"updates a second": self._rate, "times real time": self._speed, "waiting for data": self._share}
        return {name: round(value, 4) for name, value in named.items()}

    def short(self) -> str:
        """Return the rate for a progress line."""
        return f"{self._rate:.2f}/s"

    def __str__(self) -> str:
        speed = f"{self._speed:.0f} times real time, " if self._speed else ""
        return f"{self._rate:.2f} updates/s, {speed}{self._share:.0%} of the time waiting for data"
