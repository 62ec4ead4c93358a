"""What is used of a video file: which track, from when to when, and how fast it was filmed."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from lipsound2.errors import ConfigError


@dataclass(frozen=True)
class Excerpt:
    """Which part of a video is used, and how fast it was filmed.

    Attributes:
        track: Number of the video track, from 1; by default as in `container.video_stream`.
        start: Where it begins, in seconds of the file's own clock, which starts at the first frame.
        end: Where it ends; by default with the file.
        fps: Frames a second at which it was filmed, if they are not those at which the file plays.
    """

    track: int | None = None
    start: float = 0.0
    end: float | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.start) and self.start >= 0):
            raise ConfigError(f"a start of 0 s or later was expected, got {self.start:g}")
        if self.end is not None and not self.end > self.start:
            raise ConfigError(f"an end after the start at {self.start:g} s was expected, got {self.end:g} s")
        if self.fps is not None and not 1 <= self.fps <= 1000:
            raise ConfigError(f"1 to 1000 frames a second were expected, got {self.fps:g}")

    @property
    def whole(self) -> bool:
        """Whether all of the file is used, as fast as it plays."""
        return self.start == 0 and self.end is None and self.fps is None

    def pace(self, rate: float) -> float:
        """Return how long a second of a file of `rate` frames a second lasted when it was filmed."""
        return rate / self.fps if self.fps else 1.0

    def file_time(self, time: float, rate: float) -> float:
        """Return the time on the file's own clock of a time counted from the start of the excerpt."""
        return self.start + time / self.pace(rate)

    def seconds(self, duration: float | None, rate: float) -> float | None:
        """Return how long the excerpt of a file of so many seconds lasts, if that is known."""
        stop = min((time for time in (duration, self.end) if time is not None), default=None)
        return None if stop is None else max(0.0, stop - self.start) * self.pace(rate)

    def settings(self) -> dict[str, Any]:
        """Return what differs from the whole file, by name."""
        default = asdict(Excerpt())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


WHOLE = Excerpt()
"""The track that a file chooses, all of it, as fast as it plays."""
