"""Figures of many clips -> a mean with its interval; the interval's chance is drawn from a fixed seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 2000
SEED = 0
LEVEL = 95.0


class Estimate(NamedTuple):
    """A mean over clips and its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


def estimate(figures: Sequence[float], weights: Sequence[float] | None = None) -> Estimate:
    """Return the mean and its bootstrap percentile interval (Efron 1979) over clips.

    Args:
        figures: One a clip, at least one.
        weights: By what each counts, such as its words; None counts all alike.
    """
    values = np.asarray(figures, np.float64)
    weight = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
    drawn = np.random.default_rng(SEED).integers(len(values), size=(DRAWS, len(values)))
    means = (values * weight)[drawn].sum(axis=1) / weight[drawn].sum(axis=1)
    low, high = np.percentile(means, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return Estimate(float((values * weight).sum() / weight.sum()), float(low), float(high))
