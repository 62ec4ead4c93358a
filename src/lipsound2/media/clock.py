"""Time stamps of a file -> time that only goes on, and an account of what was lost, cut or guessed on the way."""

from dataclasses import dataclass

MAX_STEP_BACK = 1.0
"""Seconds by which time stamps may step back before they are taken to start again."""
MAX_GAP = 10.0
"""Seconds between two time stamps beyond which the gap is cut."""
STANDSTILL = 0.25
"""Seconds beyond which one picture is no longer a picture of speech."""
SLOW = 10.0
"""Frames a second below which lips cannot be read."""
CUT_SHORT = 1.0
"""Seconds that may be missing of the length that a file states."""


@dataclass(frozen=True)
class PictureAccount:
    """What became of the frames of a video.

    Attributes:
        decoded: Frames decoded.
        used: Of these, frames shown at the output rate.
        undecodable: Packets that could not be decoded.
        dropped: Frames whose time stamps went backwards.
        still: Seconds for which one picture stands longer than `STANDSTILL`.
        cut: Seconds of gaps in the time stamps that were left out.
        restarts: How often the time stamps started again.
        guessed: Whether stamps were missing and frames were counted at `rate`.
        broken: Whether the file could not be read to its end.
        rate: Stated frames a second.
        filmed: Frames a second at which the user says that it was filmed.
        seconds: How long the frames last.
        stated: How long the file says that they last, if it says so.
        track: Number of the video track, from 1.
        tracks: Video tracks that the file has.
    """

    decoded: int = 0
    used: int = 0
    undecodable: int = 0
    dropped: int = 0
    still: float = 0.0
    cut: float = 0.0
    restarts: int = 0
    guessed: bool = False
    broken: bool = False
    rate: float = 0.0
    filmed: float | None = None
    seconds: float = 0.0
    stated: float | None = None
    track: int = 1
    tracks: int = 1

    @property
    def lost_share(self) -> float:
        """Share of the video in which the frames are not those that were filmed."""
        undecodable = self.undecodable / max(1, self.decoded + self.undecodable)
        return min(1.0, undecodable + self.still / max(self.seconds, 1e-6))

    def notes(self) -> tuple[str, ...]:
        """Return one line for each thing that was lost, cut or guessed."""
        filmed = self.filmed or self.rate
        found = {
            f"video track {self.track} of {self.tracks} was taken": self.tracks > 1,
            f"{self.undecodable} of {self.decoded + self.undecodable} frames could not be decoded": self.undecodable,
            f"time stamps were missing: frames are taken at the stated {self.rate:g} fps": self.guessed,
            f"the time stamps start again {_times(self.restarts)}: joined to one recording": self.restarts,
            f"gaps of {self.cut:,.0f} s in the time stamps were cut": self.cut,
            f"{self.dropped} frames were left out, their time stamps go backwards": self.dropped,
            f"there are only {filmed:g} frames a second, too few to read lips from": 0 < filmed < SLOW,
            f"frames stand still for {self.still:.1f} s in all": self.still >= STANDSTILL,
            "the file is damaged: what comes after could not be read": self.broken,
            f"the video ends at {self.seconds:.1f} s of {self.stated or 0:.1f} s; the file may be damaged": (
                self.stated is not None and self.seconds < self.stated - CUT_SHORT and not self.cut
            ),
        }
        return tuple(line for line, applies in found.items() if applies)


class Clock:
    """Turns time stamps in seconds into time: restarts are joined, long gaps cut, missing stamps counted.

    Args:
        period: Seconds from one stamp to the next.
        counting: Whether stamps are to be ignored, since they do not say when a picture is shown.
        offsets: What was added to the stamps after each break by another clock of the same file, which this one
            follows as far as its own stamps allow.
    """

    def __init__(self, period: float = 0.04, counting: bool = False, offsets: tuple[float, ...] = ()) -> None:
        self.period, self.guessed = period, counting
        self.placed = self.restarts = 0
        self.cut = 0.0
        self.offsets: list[float] = []
        self._theirs = offsets
        self._offset = 0.0
        self._last: float | None = None

    def place(self, stamp: float | None) -> float:
        """Return the time of what bears a stamp, or None as its stamp."""
        self.placed += 1
        expected = 0.0 if self._last is None else self._last + self.period
        if stamp is None or (self.guessed and self._last is not None):
            self.guessed = True
            time = expected
        else:
            time = self._joined(stamp, expected)
        self._last = time if self._last is None else max(self._last, time)
        return time

    def _joined(self, stamp: float, expected: float) -> float:
        time = stamp + self._offset
        if self._last is None or -MAX_STEP_BACK <= time - self._last <= MAX_GAP:
            return time
        if time > self._last:
            self.cut += time - expected
        else:
            self.restarts += 1
        number = len(self.offsets)
        self._offset = expected - stamp
        if number < len(self._theirs) and abs(self._theirs[number] - self._offset) < MAX_STEP_BACK:
            self._offset = self._theirs[number]
        self.offsets.append(self._offset)
        return stamp + self._offset


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
