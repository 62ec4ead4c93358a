"""What was kept of the time of videos and what was lost, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lipsound2.errors import DataError


@dataclass
class Account:
    """What became of the time of one or many videos.

    Attributes:
        found: Seconds of video, as far as it could be read.
        kept: Seconds of samples.
        lost: Seconds that are in no sample, by reason.
        samples: Samples made.
        untold: Videos whose transcript was left out since they became several samples.
    """

    found: float = 0.0
    kept: float = 0.0
    lost: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    untold: int = 0

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        lost = {reason: round(seconds, 3) for reason, seconds in sorted(self.lost.items())}
        whole = {"found": round(self.found, 3), "kept": round(self.kept, 3), "lost": lost, "samples": self.samples}
        return whole | ({"untold": self.untold} if self.untold else {})

    def add(self, facts: Mapping[str, Any]) -> None:
        """Add what `facts` returned of another one."""
        self.found += facts.get("found", 0.0)
        self.kept += facts.get("kept", 0.0)
        self.samples += facts.get("samples", 0)
        self.untold += facts.get("untold", 0)
        for reason, seconds in facts.get("lost", {}).items():
            self.lose(reason, seconds)

    def lose(self, reason: str, seconds: float) -> None:
        """Count seconds as lost."""
        self.lost[reason] = self.lost.get(reason, 0.0) + seconds

    def table(self) -> list[str]:
        """Return a line for what was found, kept and lost, in minutes."""
        rows = [(self.found, "found"), (self.kept, f"kept in {self.samples} samples")]
        rows += [(seconds, f"lost: {reason}") for reason, seconds in sorted(self.lost.items(), key=lambda row: -row[1])]
        return [f"{seconds / 60:10.2f} min {what}" for seconds, what in rows]


class NothingKeptError(DataError):
    """A video that can be read and of which no sample was made."""

    def __init__(self, message: str, hint: str | None = None, account: Account | None = None) -> None:
        super().__init__(message, hint)
        self.account = account or Account()

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all of it when it crosses a process boundary."""
        return type(self), (self.message, self.hint, self.account)
