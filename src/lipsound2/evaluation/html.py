"""A report folder -> one HTML file that shows and plays everything, self-contained."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32
from matplotlib.figure import Figure

from lipsound2 import plots
from lipsound2.config import audio_16k
from lipsound2.evaluation.metrics import Metric
from lipsound2.evaluation.sound import Sound
from lipsound2.evaluation.summary import CEILING, FLOOR, PACK, TRUE, ClipResult, Summary
from lipsound2.evaluation.tables import (
    cell,
    headline,
    label,
    missing_lines,
    notes,
    published_table,
    sections,
    shown_metrics,
    sound_path,
)
from lipsound2.runtime.atomic import write_text

HTML_NAME = "report.html"
RANKED_BY = "estoi"
"""Metric by which the best, the median and the worst clip are chosen."""

GLANCE = ("stoi", "estoi", "pesq_wb_16k", "dnsmos_ovrl")
"""Metrics at the top of the page, besides the word error rates."""

DRAWN = ("stoi", "estoi", "pesq_wb_16k", "mcd", "dnsmos_ovrl")
"""Metrics whose distributions are drawn, besides the word error rates."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; }
td small { opacity: .7; white-space: nowrap; display: block; }
.wide { overflow-x: auto; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
figure { margin: 0 0 1rem; }
.players { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 1rem; }
.players audio { width: 100%; }
.warning { border-left: 4px solid #d60; padding-left: .7rem; font-weight: 600; }
section.clip { border-top: 2px solid var(--line); padding-top: .5rem; margin-top: 1.5rem; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: 3px; }
"""


def write_html(folder: Path, summary: Summary, results: Sequence[ClipResult]) -> None:
    """Write the report; its audio files lie in the folder already."""
    title = f"{summary.titles[PACK]}: {headline(summary)}"
    parts = [
        f"<h1>{escape(summary.titles[PACK])}</h1>",
        f"<p>{escape(headline(summary))}. {escape(_context(summary))}</p>",
        *(f'<p class="warning">{escape(note)}.</p>' for note in notes(summary)),
        _glance(summary),
        *_clips(folder, summary, results),
        "<h2>All figures</h2>",
        "<p>Means over clips with bootstrap 95 % intervals. A figure that is missing for some clips says so.</p>",
        *(_section(summary, name, metrics) for name, metrics in sections(summary).items()),
        _published(summary),
        *_distributions(summary, results),
        _missing(summary),
        _methods(summary),
    ]
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{_joined(parts)}\n</body>\n</html>\n"
    )
    write_text(folder / HTML_NAME, page)


def _glance(summary: Summary) -> str:
    """Show the figures that most readers look for, of the pack and of what it lies between."""
    rows = [row for row in summary.titles if row in (PACK, FLOOR) or row.startswith(CEILING)]
    metrics = [metric for metric in shown_metrics(summary) if metric.name in GLANCE or metric.name.startswith("wer_")]
    table = [[label(metric), *(_cell(summary, row, metric) for row in rows)] for metric in metrics]
    return _table(["", *(summary.titles[row] for row in rows)], table) if table else ""


def ranking(metrics: Sequence[Metric]) -> Metric | None:
    """Return the metric that ranks clips: `RANKED_BY` if it was computed, else the first that has a direction."""
    able = [metric for metric in metrics if metric.rises is not None]
    return next((metric for metric in able if metric.name == RANKED_BY), able[0] if able else None)


def ranked(results: Sequence[ClipResult], metrics: Sequence[Metric]) -> dict[str, ClipResult]:
    """Choose the best, the median and the worst clip of the pack; fewer where there are fewer clips."""
    by = ranking(metrics)
    if by is None:
        return {}
    sign = -1 if by.rises else 1
    known = [result for result in results if by.name in result.rows[PACK].figures]
    known.sort(key=lambda result: (sign * result.rows[PACK].figures[by.name], result.id))
    places = {"Best": 0, "Median": len(known) // 2, "Worst": len(known) - 1}
    chosen: dict[str, ClipResult] = {}
    for name, place in places.items():
        if known and known[place] not in chosen.values():
            chosen[name] = known[place]
    return chosen


def _context(summary: Summary) -> str:
    facts = summary.facts
    protocol = f"Protocol {facts['protocol']}. " if facts["protocol"] else ""
    pack = facts["pack"]
    digest = f"Weights {pack['model_sha256'][:12]}. " if isinstance(pack, dict) else ""
    return f"{protocol}{digest}Floor: {facts['floor']}."


def _section(summary: Summary, title: str, metrics: Sequence[Metric]) -> str:
    """Write the table of a section."""
    rows = [[label(metric), *(_cell(summary, row, metric) for row in summary.titles)] for metric in metrics]
    return f"<h3>{escape(title)}</h3>" + _table(["", *summary.titles.values()], rows)


def _cell(summary: Summary, row: str, metric: Metric) -> str:
    """Show the mean large and the rest small; the text is already HTML."""
    shown = escape(cell(summary.figures[row][metric.name], metric, summary.clips))
    mean, _, rest = shown.partition(" (")
    return f"{mean}<small>({rest}</small>" if rest else shown


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table; head and first cells are plain text, other cells HTML."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{text}</td>' for text in rest)}</tr>" for first, *rest in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _published(summary: Summary) -> str:
    note, table = published_table(summary)
    if not table:
        return ""
    rows = [[first.strip("*"), *(escape(text) for text in rest)] for first, *rest in table[1:]]
    return f"<h2>Beside published figures</h2><p>{escape(note)}</p>{_table(table[0], rows)}"


def _missing(summary: Summary) -> str:
    lines = missing_lines(summary)
    if not lines:
        return "<p>No figure is missing.</p>"
    return "<h2>Missing figures</h2><ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _distributions(summary: Summary, results: Sequence[ClipResult]) -> list[str]:
    figures: list[str] = []
    for metric in summary.metrics:
        if metric.name not in DRAWN and not metric.name.startswith("wer_"):
            continue
        groups = {
            title: [r.rows[row].figures[metric.name] for r in results if metric.name in r.rows[row].figures]
            for row, title in summary.titles.items()
            if row != TRUE or metric.section in ("alone", "words")
        }
        if any(groups.values()):
            figures.append(_figure(plots.distributions(groups, label(metric)), f"{metric.label} of each clip"))
    return ["<h2>Distributions</h2>", *figures] if figures else []


def _clips(folder: Path, summary: Summary, results: Sequence[ClipResult]) -> list[str]:
    metrics = shown_metrics(summary)
    chosen, by = ranked(results, metrics), ranking(metrics)
    parts = [f"<h2>Clips</h2><p>Chosen by {by.label} of the pack.</p>"] if by and chosen else []
    return parts + [_clip(folder, summary, place, result) for place, result in chosen.items()]


def _clip(folder: Path, summary: Summary, place: str, result: ClipResult) -> str:
    rows = [TRUE, PACK, *(row for row in summary.titles if row.startswith(CEILING))]
    paths = {row: sound_path(folder, row, result.id) for row in rows}
    players = "".join(
        _player(path, summary.titles[row], result.heard[row]) for row, path in paths.items() if path.is_file()
    )
    mels = {summary.titles[row]: _mel(paths[row]) for row in (TRUE, PACK)}
    scores = result.rows[PACK].figures
    figures = ", ".join(
        f"{metric.label} {scores[metric.name]:.{metric.digits}f}"
        for metric in summary.metrics
        if metric.section in ("main", "words") and metric.name in scores
    )
    said = f"<p>Reference: <q>{escape(result.said)}</q></p>" if result.said else ""
    trained = " (the pack was trained on it)" if result.trained else ""
    drawn = _figure(plots.mels(mels, audio_16k(), beside=True), f"mels of {result.id}")
    return (
        f'<section class="clip"><h3>{place}: {escape(result.id)}{trained}</h3><p>{escape(figures)}</p>{said}'
        f'<div class="players">{players}</div>{drawn}</section>'
    )


def _player(path: Path, title: str, heard: dict[str, str]) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    words = "".join(f"{escape(judge)}: <q>{escape(text)}</q><br>" for judge, text in heard.items())
    sound = f'<audio controls preload="metadata" src="data:audio/flac;base64,{data}"></audio>'
    return f"<div>{escape(title)}{sound}<small>{words}</small></div>"


def _mel(path: Path) -> Float32[np.ndarray, "mels frames"]:
    wave, rate = soundfile.read(path, dtype="float32")
    return Sound(wave, rate).mel


def _figure(figure: Figure, text: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<figure><img alt="{escape(text)}" src="data:image/png;base64,{data}"></figure>'


def _methods(summary: Summary) -> str:
    rows = [
        [
            metric.label,
            f"<code>{metric.name}</code>",
            escape(metric.setting),
            escape(f"{metric.package} {summary.versions[metric.package]}"),
            {True: "more", False: "less", None: ""}[metric.rises],
        ]
        for metric in summary.metrics
        if not metric.name.endswith("_lag")
    ]
    versions = ", ".join(f"{name} {version}" for name, version in summary.versions.items())
    table = _table(["Metric", "name", "setting", "computed by", "better is"], rows)
    return f"<h2>How it was measured</h2>{table}<p>{escape(versions)}</p>"


def _joined(parts: Sequence[str]) -> str:
    return "\n".join(part for part in parts if part)
