"""How many of how many clips are done -> how fast that goes and how long it takes, on a bar or in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import TextColumn

from lipsound2.runtime.terminal import counting, say

EVERY = 60.0
"""Seconds from one line in a log to the next."""


class Pace:
    """Rates since the first call.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.began: tuple[float, int, float] | None = None
        self.done = self.total = 0
        self.elapsed = self.rate = self.speed = 0.0

    def look(self, done: int, total: int, seconds: float) -> None:
        """Measure.

        Args:
            done: Number of clips done; those of the first call were done by an earlier run.
            total: Number of clips.
            seconds: Seconds of video done, counted in the same way.
        """
        self.began = self.began or (self.clock(), done, seconds)
        start, kept, heard = self.began
        self.elapsed = max(self.clock() - start, 1e-9)
        self.done, self.total = done - kept, total - kept
        self.rate = self.done / self.elapsed
        self.speed = (seconds - heard) / self.elapsed

    @property
    def rates(self) -> str:
        """Return the rates in words; hours of video an hour are seconds of video a second."""
        return f"{self.rate:.3g} clips/s, {self.speed:.3g} video hours/h"

    @property
    def left(self) -> str:
        """Return the time that is left at this rate, or nothing where it cannot be told."""
        return f"{_clock((self.total - self.done) / self.rate)} left" if 0 < self.done < self.total else ""

    @property
    def summary(self) -> str:
        """Return what was done, in a line."""
        return f"{self.done} clips in {_clock(self.elapsed)}: {self.rates}"


@contextmanager
def pacing(
    description: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int, float], None]]:
    """Show a bar, or a line a minute where nobody looks on, and yield the function that is told what is done.

    Args:
        description: What is done, such as `preparing`.
        clock: Returns the time in seconds.
    """
    pace = Pace(clock)
    with counting(description, clock, EVERY, TextColumn("{task.fields[note]}", markup=False)) as show:

        def update(done: int, total: int, seconds: float) -> None:
            pace.look(done, total, seconds)
            show(done, total, ", ".join(filter(None, (" clips", pace.rates, pace.left))) if pace.done else " clips")

        yield update
    if pace.done:
        say(f"{description}: {pace.summary}")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
