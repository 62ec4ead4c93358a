"""Two reports on the same clips -> by how much they differ, clip by clip, with intervals."""

from dataclasses import dataclass
from pathlib import Path

from lipsound2.errors import DataError
from lipsound2.evaluation.metrics import Metric
from lipsound2.evaluation.statistics import Estimate, estimate
from lipsound2.evaluation.summary import PACK, ClipResult, Summary, read_summary
from lipsound2.evaluation.tables import label, read_results


@dataclass(frozen=True)
class Difference:
    """How one metric differs between two reports.

    Attributes:
        metric: Which.
        first: Mean of the first report over the clips that both have.
        second: Mean of the second.
        change: Second minus first, with its interval.
        clips: How many clips both have a figure for.
        left_out: How many clips have none in one of them.
    """

    metric: Metric
    first: float
    second: float
    change: Estimate
    clips: int
    left_out: int

    @property
    def verdict(self) -> str:
        """Which report is better, if the interval of the difference leaves no doubt."""
        if self.metric.rises is None or self.change.low <= 0 <= self.change.high:
            return ""
        return "B" if (self.change.mean > 0) == self.metric.rises else "A"


def compare(first: Path, second: Path, row: str = PACK) -> list[Difference]:
    """Compare a row of two reports over the clips that both hold.

    Raises:
        DataError: A report is missing, they hold different clips, or there is no such row.
    """
    summaries = [read_summary(folder) for folder in (first, second)]
    for folder, summary in zip((first, second), summaries, strict=True):
        if row not in summary.titles:
            raise DataError(f"{folder} has no row {row!r}", f"it has {', '.join(summary.titles)}")
    clips = [
        {result.id: result for result in read_results(folder, summary)}
        for folder, summary in zip((first, second), summaries, strict=True)
    ]
    if clips[0].keys() != clips[1].keys():
        lone = sorted(clips[0].keys() ^ clips[1].keys())
        raise DataError(
            f"the reports are of different clips: {len(lone)} are in one only, such as {lone[0]}",
            "evaluate both on the same data, split and speakers",
        )
    names = {metric.name for metric in summaries[1].metrics}
    found = [
        _difference(metric, row, [(clips[0][name], clips[1][name]) for name in clips[0]])
        for metric in summaries[0].metrics
        if metric.name in names
    ]
    return [difference for difference in found if difference]


def titles(first: Path, second: Path, row: str = PACK) -> tuple[str, str]:
    """Name the two sides."""
    a, b = (_title(read_summary(folder), folder, row) for folder in (first, second))
    return f"A: {a}", f"B: {b}"


def markdown(differences: list[Difference], names: tuple[str, str]) -> str:
    """Write differences as a Markdown table."""
    clips = max((difference.clips for difference in differences), default=0)
    lines = [
        f"Differences over {clips} clips, B - A, with bootstrap 95 % intervals of the paired differences.",
        "",
        f"| | {names[0]} | {names[1]} | B - A | better | clips |",
        "|---" * 6 + "|",
    ]
    for found in differences:
        digits = found.metric.digits
        change = found.change
        shown = f"{change.mean:+.{digits}f} ({change.low:+.{digits}f} to {change.high:+.{digits}f})"
        left_out = f", {found.left_out} left out" if found.left_out else ""
        lines.append(
            f"| {label(found.metric)} | {found.first:.{digits}f} | {found.second:.{digits}f} | {shown} "
            f"| {found.verdict} | {found.clips}{left_out} |"
        )
    return "\n".join(lines) + "\n"


def _difference(metric: Metric, row: str, pairs: list[tuple[ClipResult, ClipResult]]) -> Difference | None:
    known = [
        (a.rows[row].figures[metric.name], b.rows[row].figures[metric.name], a.weight(metric))
        for a, b in pairs
        if metric.name in a.rows[row].figures and metric.name in b.rows[row].figures
    ]
    if not known:
        return None
    weights = [weight for _, _, weight in known]
    first, second = (estimate([pair[side] for pair in known], weights).mean for side in (0, 1))
    change = estimate([b - a for a, b, _ in known], weights)
    return Difference(metric, first, second, change, len(known), len(pairs) - len(known))


def _title(summary: Summary, folder: Path, row: str) -> str:
    return f"{folder.resolve().name} ({summary.titles[row]})"
