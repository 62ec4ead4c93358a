"""Figures of each clip -> means with intervals and counts of what is missing, and a JSON file of them."""

import importlib.metadata
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lipsound2.errors import DataError
from lipsound2.evaluation import words
from lipsound2.evaluation.metrics import Meter, Metric
from lipsound2.evaluation.score import Scores
from lipsound2.evaluation.statistics import estimate
from lipsound2.runtime.atomic import write_text

SUMMARY_NAME = "summary.json"
PACK, CEILING, FLOOR, TRUE = "pack", "ceiling", "floor", "true"
"""Names of the rows; that of a ceiling is followed by its vocoder."""


@dataclass
class ClipResult:
    """All that was found of one clip.

    Attributes:
        id: The clip.
        speaker: Who speaks.
        seconds: Length of the reference audio, if there is one.
        said: The reference transcript, normalised, or empty.
        rows: The scores of each of its sounds.
        heard: Hypothesis of each recogniser for each row.
        trained: Whether the pack was trained on the clip.
    """

    id: str
    speaker: str
    seconds: float | None
    said: str = ""
    rows: dict[str, Scores] = field(default_factory=dict)
    heard: dict[str, dict[str, str]] = field(default_factory=dict)
    trained: bool = False

    def write(self, path: Path) -> None:
        """Write as JSON."""
        write_text(path, json.dumps(asdict(self), ensure_ascii=False))

    @classmethod
    def read(cls, path: Path) -> "ClipResult":
        """Read what `write` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(**(data | {"rows": {name: Scores(**scores) for name, scores in data["rows"].items()}}))

    def weight(self, metric: Metric) -> float:
        """By what the clip counts in the mean of a metric."""
        counts = {"": 1, "words": len(self.said.split()), "characters": len(self.said)}
        return float(counts[metric.weight])


@dataclass(frozen=True)
class Figure:
    """One metric of one row over all clips.

    Attributes:
        mean: Over the clips that have it; None if none has.
        low: Lower end of the bootstrap 95 % interval.
        high: Upper end.
        count: Clips that have it.
        missing: Clips that have not, by reason.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    missing: dict[str, int]


@dataclass(frozen=True)
class Summary:
    """What a report says in short.

    Attributes:
        facts: What was evaluated.
        clips: How many.
        failed: How many of them gave no figure at all for the pack.
        seconds: Total length of the reference audio.
        versions: Of the packages, by name.
        metrics: In the order of the tables.
        titles: Of the rows, by name.
        figures: By row and metric.
    """

    facts: dict[str, object]
    clips: int
    failed: int
    seconds: float
    versions: dict[str, str]
    metrics: list[Metric]
    titles: dict[str, str]
    figures: dict[str, dict[str, Figure]]


def summarize(
    results: Sequence[ClipResult], titles: Mapping[str, str], metrics: list[Metric], facts: dict[str, object]
) -> Summary:
    """Aggregate the metrics of all clips.

    Args:
        results: Of all clips.
        titles: Of the rows, by name.
        metrics: That were looked for.
        facts: What was evaluated.
    """
    figures = {row: {metric.name: _figure(results, row, metric) for metric in metrics} for row in titles}
    seconds = sum(result.seconds or 0 for result in results)
    failed = sum(not result.rows[PACK].figures for result in results)
    return Summary(facts, len(results), failed, seconds, _versions(metrics), list(metrics), dict(titles), figures)


def all_metrics(meters: Sequence[Meter], judges: Sequence[str]) -> list[Metric]:
    """List the metrics that meters and recognisers give."""
    measured = [metric for meter in meters for metric in meter.all_metrics()]
    return measured + [metric for judge in judges for metric in words.metrics(judge)]


def write_summary(folder: Path, summary: Summary) -> None:
    """Write `summary.json`."""
    write_text(folder / SUMMARY_NAME, json.dumps(asdict(summary), indent=2, ensure_ascii=False) + "\n")


def read_summary(folder: Path) -> Summary:
    """Read the summary of a report.

    Raises:
        DataError: There is none.
    """
    path = folder / SUMMARY_NAME
    if not path.is_file():
        raise DataError(f"{folder} holds no report", "make one with: lipsound2 evaluate --data DATA -o REPORT")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        figures = {
            row: {name: Figure(**figure) for name, figure in named.items()} for row, named in data["figures"].items()
        }
        return Summary(**(data | {"metrics": [Metric(**metric) for metric in data["metrics"]], "figures": figures}))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}", "evaluate again") from error


def _figure(results: Sequence[ClipResult], row: str, metric: Metric) -> Figure:
    present = [result for result in results if metric.name in result.rows[row].figures]
    missing = Counter(
        result.rows[row].missing[metric.name] for result in results if metric.name in result.rows[row].missing
    )
    counted = dict(sorted(missing.items()))
    if not present:
        return Figure(None, None, None, 0, counted)
    found = estimate(
        [result.rows[row].figures[metric.name] for result in present], [result.weight(metric) for result in present]
    )
    return Figure(*found, len(present), counted)


def _versions(metrics: Sequence[Metric]) -> dict[str, str]:
    names = sorted({metric.package for metric in metrics} | {"torch", "numpy"})
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
