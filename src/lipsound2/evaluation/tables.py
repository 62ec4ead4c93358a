"""A summary and its clips -> CSV, JSON and Markdown files, and a table to print."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from lipsound2.atomic import write_text
from lipsound2.evaluation.metrics import SECTIONS, Metric
from lipsound2.evaluation.summary import ClipResult, Figure, Summary, write_summary

CLIPS_NAME, MISSING_NAME, MARKDOWN_NAME = "clips.csv", "missing.csv", "summary.md"


def write_tables(folder: Path, summary: Summary, results: Sequence[ClipResult]) -> None:
    """Write all tables of a report; `summary.json` comes last and says that it is whole."""
    write_text(folder / CLIPS_NAME, _csv(_clip_rows(summary, results)))
    write_text(folder / MISSING_NAME, _csv(_missing_rows(results)))
    write_text(folder / MARKDOWN_NAME, markdown(summary))
    write_summary(folder, summary)


def sections(summary: Summary) -> dict[str, list[Metric]]:
    """Sort the metrics by the title of their table."""
    sorted_ = {title: [m for m in summary.metrics if m.section == name] for name, title in SECTIONS.items()}
    return {title: metrics for title, metrics in sorted_.items() if metrics}


def label(metric: Metric) -> str:
    """Name a metric with its unit and the direction that is better."""
    unit = f" [{metric.unit}]" if metric.unit else ""
    return f"{metric.label}{unit}"


def cell(figure: Figure, metric: Metric, clips: int) -> str:
    """Show a mean with its interval, and from how many clips it is if not from all."""
    if figure.mean is None or figure.low is None or figure.high is None:
        return f"none of {clips}"
    digits = metric.digits
    shown = f"{figure.mean:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"
    return shown if figure.count == clips else f"{shown}, {figure.count} of {clips}"


def headline(summary: Summary) -> str:
    """Say in a line what was evaluated."""
    facts = summary.facts
    speakers = facts["speakers"]
    whose = f" of {', '.join(speakers)}" if isinstance(speakers, list) and speakers else ""
    return f"{summary.clips} clips{whose} ({facts['data']}, split {facts['split']}), {summary.seconds:.0f} s"


def missing_lines(summary: Summary) -> list[str]:
    """Say which figures are missing and why, a line each."""
    lines = []
    for row, title in summary.titles.items():
        reasons: dict[tuple[str, int], list[str]] = {}
        for metric in summary.metrics:
            for reason, count in summary.figures[row][metric.name].missing.items():
                reasons.setdefault((reason, count), []).append(metric.name)
        for (reason, count), names in reasons.items():
            lines.append(f"{title}: {count} of {summary.clips} clips without {', '.join(names)}: {reason}")
    return lines


def markdown(summary: Summary) -> str:
    """Write a summary as Markdown."""
    titles = summary.titles
    lines = [headline(summary) + ". Means with bootstrap 95 % intervals.", ""]
    for title, metrics in sections(summary).items():
        lines += [f"| {title} | {' | '.join(titles.values())} |", "|---" * (len(titles) + 1) + "|"]
        for metric in metrics:
            cells = [cell(summary.figures[row][metric.name], metric, summary.clips) for row in titles]
            lines.append(f"| {label(metric)} | {' | '.join(cells)} |")
        lines.append("")
    lines += [f"- {line}" for line in missing_lines(summary)]
    return "\n".join(lines).rstrip() + "\n"


def _clip_rows(summary: Summary, results: Sequence[ClipResult]) -> list[list[str]]:
    names = [metric.name for metric in summary.metrics]
    judges = sorted({judge for result in results for heard in result.heard.values() for judge in heard})
    table = [["clip", "speaker", "row", *names, "missing", "said", *(f"heard by {judge}" for judge in judges)]]
    for result in results:
        for row, scores in result.rows.items():
            figures = [repr(scores.figures[name]) if name in scores.figures else "" for name in names]
            heard = [result.heard[row].get(judge, "") for judge in judges]
            table.append([result.id, result.speaker, row, *figures, str(len(scores.missing)), result.said, *heard])
    return table


def _missing_rows(results: Sequence[ClipResult]) -> list[list[str]]:
    table = [["clip", "row", "metric", "reason"]]
    for result in results:
        for row, scores in result.rows.items():
            table += [[result.id, row, name, reason] for name, reason in scores.missing.items()]
    return table


def _csv(table: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    return buffer.getvalue()
