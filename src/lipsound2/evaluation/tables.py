"""A summary and its clips -> CSV, JSON and Markdown files, and a table to print."""

import csv
import io
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from lipsound2.corpora.protocols import find_protocol
from lipsound2.errors import DataError
from lipsound2.evaluation.metrics import SECTIONS, Metric
from lipsound2.evaluation.score import Scores
from lipsound2.evaluation.summary import CEILING, PACK, ClipResult, Figure, Summary, write_summary
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.names import file_name

CLIPS_NAME, MISSING_NAME, MARKDOWN_NAME = "clips.csv", "missing.csv", "summary.md"
SOUNDS_NAME = "sounds"
_HEARD = "heard by "


def write_tables(folder: Path, summary: Summary, results: Sequence[ClipResult]) -> None:
    """Write all tables of a report; `summary.json` comes last and says that it is whole."""
    write_text(folder / CLIPS_NAME, _csv(_clip_rows(summary, results)))
    write_text(folder / MISSING_NAME, _csv(_missing_rows(results)))
    write_text(folder / MARKDOWN_NAME, markdown(summary))
    write_summary(folder, summary)


def read_results(folder: Path, summary: Summary) -> list[ClipResult]:
    """Read the clips of a report.

    Raises:
        DataError: They are not there or damaged.
    """
    results: dict[str, ClipResult] = {}
    names = [metric.name for metric in summary.metrics]
    try:
        for line in _read_csv(folder / CLIPS_NAME):
            seconds = float(line["seconds"]) if line["seconds"] else None
            result = results.setdefault(line["clip"], ClipResult(line["clip"], line["speaker"], seconds, line["said"]))
            result.trained = line.get("trained_on") == "yes"
            result.rows[line["row"]] = Scores({name: float(line[name]) for name in names if line[name]})
            heard = {name: text for name, text in line.items() if name.startswith(_HEARD)}
            result.heard[line["row"]] = {name.removeprefix(_HEARD): text for name, text in heard.items()}
        for line in _read_csv(folder / MISSING_NAME):
            results[line["clip"]].rows[line["row"]].missing[line["metric"]] = line["reason"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"the tables of {folder} are damaged: {error}", "evaluate again") from error
    return list(results.values())


def sound_path(folder: Path, row: str, clip_id: str) -> Path:
    """Return where the audio of a clip's row is kept."""
    return folder / SOUNDS_NAME / row / f"{file_name(clip_id)}.flac"


def sections(summary: Summary) -> dict[str, list[Metric]]:
    """Sort the metrics by the title of their table."""
    shown = shown_metrics(summary)
    sorted_ = {title: [m for m in shown if m.section == name] for name, title in SECTIONS.items()}
    return {title: metrics for title, metrics in sorted_.items() if metrics}


def shown_metrics(summary: Summary) -> list[Metric]:
    """List the metrics that any clip has in any row; why the others are missing is listed apart."""
    return [metric for metric in summary.metrics if any(row[metric.name].count for row in summary.figures.values())]


def label(metric: Metric) -> str:
    """Name a metric with its unit."""
    return f"{metric.label} [{metric.unit}]" if metric.unit else metric.label


def cell(figure: Figure, metric: Metric, clips: int) -> str:
    """Show a mean with its interval, and from how many clips it is if not from all."""
    if figure.mean is None or figure.low is None or figure.high is None:
        return f"none of {clips}"
    digits = metric.digits
    shown = f"{figure.mean:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"
    return shown if figure.count == clips else f"{shown}, {figure.count} of {clips}"


def headline(summary: Summary) -> str:
    """Return one line that describes what was evaluated."""
    facts = summary.facts
    speakers = facts["speakers"]
    whose = f" of {', '.join(speakers)}" if isinstance(speakers, list) and speakers else ""
    return f"{summary.clips} clips{whose} ({facts['data']}, split {facts['split']}), {summary.seconds:.0f} s"


def trained_note(count: int, clips: int, pack: str) -> str:
    """Return a warning of clips that a pack was trained on."""
    return f"{pack} was trained on {count} of {clips} clips: figures of these mean nothing for other clips"


def notes(summary: Summary) -> list[str]:
    """List what a reader should know of the choice of clips, a line each."""
    facts = summary.facts
    pack = facts["pack"]
    name = str(pack["name"]) if isinstance(pack, dict) else ""
    counts = {key: value if isinstance(value := facts.get(key), int) else 0 for key in ("trained_on", "left_out")}
    lines = [trained_note(counts["trained_on"], summary.clips, name)] if counts["trained_on"] else []
    if counts["left_out"]:
        lines.append(f"{counts['left_out']} more clips were left out, since {name} was trained on them")
    if facts.get("history") is False:
        lines.append(f"{name} does not say which clips it was trained on")
    return lines


def missing_lines(summary: Summary) -> list[str]:
    """List the missing figures and why, a line each; rows that lack the same share one."""
    rows: dict[tuple[str, int, str], list[str]] = {}
    for row, title in summary.titles.items():
        reasons: dict[tuple[str, int], list[str]] = {}
        for metric in summary.metrics:
            for reason, count in summary.figures[row][metric.name].missing.items():
                reasons.setdefault((reason, count), []).append(metric.name)
        for (reason, count), names in reasons.items():
            rows.setdefault((reason, count, ", ".join(names)), []).append(title)
    return [
        f"{'every row' if len(titles) == len(summary.titles) else ', '.join(titles)}: {count} of {summary.clips} clips "
        f"without {names}: {reason}"
        for (reason, count, names), titles in rows.items()
    ]


def markdown(summary: Summary) -> str:
    """Write a summary as Markdown."""
    titles = summary.titles
    lines = [headline(summary) + ". Means with bootstrap 95 % intervals.", ""]
    lines += [line for note in notes(summary) for line in (f"**{note}.**", "")]
    for title, metrics in sections(summary).items():
        lines += [f"| {title} | {' | '.join(titles.values())} |", "|---" * (len(titles) + 1) + "|"]
        for metric in metrics:
            cells = [cell(summary.figures[row][metric.name], metric, summary.clips) for row in titles]
            lines.append(f"| {label(metric)} | {' | '.join(cells)} |")
        lines.append("")
    lines += _published(summary)
    lines += [f"- {line}" for line in missing_lines(summary)]
    return "\n".join(lines).rstrip() + "\n"


def published_table(summary: Summary) -> tuple[str, list[list[str]]]:
    """Set what others published for the protocol beside our own; the first row holds the column titles.

    Returns:
        A note, and the rows; none without a protocol.
    """
    name = summary.facts["protocol"]
    if not name:
        return "", []
    protocol = find_protocol(str(name))
    table = [["System", "STOI", "ESTOI", "PESQ", "WER %", "CER %", "Source"]]
    shown = {row: title for row, title in summary.titles.items() if row.startswith((PACK, CEILING))}
    table += [[f"**{title}**", *_ours(summary, row), "this report"] for row, title in shown.items()]
    for other in protocol.published:
        figures = (other.stoi, other.estoi, other.pesq, other.wer, other.cer)
        source = {"own": "its own publication", "quoted": "quoted in another publication"}[other.source]
        table.append([other.system, *("" if figure is None else f"{figure:g}" for figure in figures), source])
    return protocol.note, table


def _ours(summary: Summary, row: str) -> list[str]:
    """Return a row's figures in the order of the published ones; all three PESQ, and every recogniser."""
    cells = []
    for pattern in ("stoi", "estoi", "pesq_*", "wer_*", "cer_*"):
        found = [metric for metric in summary.metrics if fnmatch(metric.name, pattern)]
        means = [(metric, summary.figures[row][metric.name].mean) for metric in found]
        several = len(means) > 1
        shown = [
            f"{mean:.{metric.digits}f}" + (f" ({_short(metric)})" if several else "")
            for metric, mean in means
            if mean is not None
        ]
        cells.append(", ".join(shown))
    return cells


def _short(metric: Metric) -> str:
    return metric.label.removeprefix("PESQ ").removeprefix("WER by ").removeprefix("CER by ")


def _published(summary: Summary) -> list[str]:
    note, table = published_table(summary)
    if not table:
        return []
    first, *rest = (f"| {' | '.join(row)} |" for row in table)
    return [f"Beside published figures. {note}".rstrip(), "", first, "|---" * len(table[0]) + "|", *rest, ""]


def _clip_rows(summary: Summary, results: Sequence[ClipResult]) -> list[list[str]]:
    names = [metric.name for metric in summary.metrics]
    judges = sorted({judge for result in results for heard in result.heard.values() for judge in heard})
    table = [
        [
            "clip",
            "speaker",
            "seconds",
            "trained_on",
            "row",
            *names,
            "missing",
            "said",
            *(f"{_HEARD}{judge}" for judge in judges),
        ]
    ]
    for result in results:
        for row, scores in result.rows.items():
            figures = [repr(scores.figures[name]) if name in scores.figures else "" for name in names]
            heard = [result.heard[row].get(judge, "") for judge in judges]
            seconds = "" if result.seconds is None else repr(result.seconds)
            known = [result.id, result.speaker, seconds, "yes" if result.trained else "no", row]
            table.append([*known, *figures, str(len(scores.missing)), result.said, *heard])
    return table


def _missing_rows(results: Sequence[ClipResult]) -> list[list[str]]:
    table = [["clip", "row", "metric", "reason"]]
    for result in results:
        for row, scores in result.rows.items():
            table += [[result.id, row, name, reason] for name, reason in scores.missing.items()]
    return table


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _csv(table: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    return buffer.getvalue()
