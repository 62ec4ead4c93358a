"""The losses of a training, one after the other -> whether it diverges."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lipsound2.errors import TrainingError

DIVERGED = 10.0
"""A smoothed loss this many times its lowest value diverges."""
KEPT = 0.98
"""Share of the smoothed loss that an update leaves."""


class DivergedError(TrainingError):
    """The loss or the weights are not finite, or the loss grows without end."""


@dataclass
class Divergence:
    """Watches the loss.

    Attributes:
        smoothed: Running mean of the loss; infinite before the first.
        lowest: Its lowest value.
        retries: How often the training was taken back to its last checkpoint.
    """

    smoothed: float = math.inf
    lowest: float = math.inf
    retries: int = 0

    def check(self, loss: float, updates: int, step: int) -> None:
        """Take the mean loss of the last updates.

        Raises:
            DivergedError: It is not finite, or diverges.
        """
        if not math.isfinite(loss):
            raise DivergedError(f"the loss became {loss} at step {step}")
        kept = KEPT**updates
        self.smoothed = loss if math.isinf(self.smoothed) else kept * self.smoothed + (1 - kept) * loss
        self.lowest = min(self.lowest, self.smoothed)
        if self.smoothed > DIVERGED * self.lowest:
            raise DivergedError(f"the loss diverged at step {step}: {self.smoothed:.3g} after {self.lowest:.3g}")

    def begin_anew(self) -> None:
        """Forget the losses, since the training was taken back."""
        self.smoothed = self.lowest = math.inf
        self.retries += 1

    def state(self) -> dict[str, float | int]:
        """Return what a resumed run needs, as plain data."""
        finite = {"smoothed": self.smoothed, "lowest": self.lowest}
        return {name: value for name, value in finite.items() if math.isfinite(value)} | {"retries": self.retries}

    def restore(self, kept: Mapping[str, float | int]) -> None:
        """Go on from such a state; retries that it does not know of count."""
        self.smoothed, self.lowest = kept.get("smoothed") or math.inf, kept.get("lowest") or math.inf
        self.retries = max(self.retries, int(kept.get("retries", 0)))
