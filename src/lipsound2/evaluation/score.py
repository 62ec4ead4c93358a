"""Reference and generated audio -> every metric of one clip, or the reason why there is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lipsound2.evaluation.metrics import LAG_SUFFIX, METERS, Meter, UnmeasurableError
from lipsound2.evaluation.sound import Sound, find_lag


@dataclass
class Scores:
    """Figures by the name of their metric, and for each metric without a figure the reason."""

    figures: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def score(true: Sound | str, made: Sound | str, meters: Sequence[Meter] = METERS) -> Scores:
    """Compute every metric of generated audio.

    Args:
        true: The clip's own audio, or why there is none.
        made: What is measured, or why there is none.
        meters: In which ways.
    """
    scores = Scores()
    for meter in meters:
        _measure(scores, meter, true, made, "")
        if meter.timed:
            _measure(scores, meter, true, made, LAG_SUFFIX)
    return scores


def _measure(scores: Scores, meter: Meter, true: Sound | str, made: Sound | str, suffix: str) -> None:
    names = [metric.name + suffix for metric in meter.metrics]
    try:
        figures = meter.measure(*_prepared(meter, true, made, bool(suffix)))
    except UnmeasurableError as error:
        scores.missing |= dict.fromkeys(names, str(error))
        return
    for name, figure in zip(names, figures, strict=True):
        if isinstance(figure, str):
            scores.missing[name] = figure
        elif math.isfinite(figure):
            scores.figures[name] = figure
        else:
            scores.missing[name] = "not a finite number"


def _prepared(meter: Meter, true: Sound | str, made: Sound | str, compensate: bool) -> tuple[Sound, Sound]:
    if not meter.installed:
        raise UnmeasurableError(f"the package {meter.module} is not installed")
    if isinstance(made, str):
        raise UnmeasurableError(made)
    if not meter.refers:
        return (made, made)
    if isinstance(true, str):
        raise UnmeasurableError(true)
    if not meter.compares:
        return true, made
    if true.silent:
        raise UnmeasurableError("the reference audio is silent")
    made = made.fitted(len(true.wave))
    if compensate:
        if made.silent:
            raise UnmeasurableError("the generated audio is silent")
        made = made.earlier(find_lag(true, made))
    return true, made
