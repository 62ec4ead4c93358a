"""What is told of videos -> a line each, a table of all, and words as they are read.

What it is given are the facts of `speech.facts`, as plain data.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.terminal import manner, say, show
from lipsound2.text.alphabet import Transcript
from lipsound2.text.subtitles import cues

COLUMNS = ("seconds", "faces", "familiarity", "confidence", "words")
"""What a table says of a video, beside its name and its status."""
Row = Mapping[str, Any]


def told(facts: Row) -> dict[str, Any]:
    """Return what a table says of a video that was spoken or read; of several voices the lowest measures, all words."""
    voices: Sequence[Row] = facts.get("voices") or [facts]
    if "seconds" not in voices[0]:
        return {}
    found: dict[str, Any] = {name: voices[0][name] for name in ("seconds", "faces") if name in voices[0]}
    for name in ("familiarity", "confidence"):
        known = [voice[name] for voice in voices if voice.get(name) is not None]
        if known:
            found[name] = min(known)
    texts = [voice["text"] for voice in voices if "text" in voice]
    return found | ({"words": sum(len(text.split()) for text in texts)} if texts else {})


def line(facts: Row) -> str:
    """Return a line of what was made of a video."""
    row = told(facts)
    voices: Sequence[Row] = facts.get("voices") or [facts]
    silent = sum(stop - start for start, stop in voices[0].get("gaps", ())) if len(voices) == 1 else 0.0
    faces, words = row.get("faces"), row.get("words")
    parts = [f"{row['seconds']:.1f} s"]
    parts += [f"{faces} face{'' if faces == 1 else 's'}"] if faces is not None else []
    parts += [f"{silent:.1f} s without a face"] if silent >= 0.05 else []
    parts += [f"familiarity {row['familiarity']:.2f}"] if "familiarity" in row else []
    parts += [f"{words} word{'' if words == 1 else 's'}"] if words is not None else []
    parts += [f"confidence {row['confidence']:.2f}"] if "confidence" in row else []
    endings = [Path(path).suffix[1:] for path in facts.get("outputs", ())]
    return ", ".join(parts) + (f" -> {', '.join(dict.fromkeys(endings))}" if endings else "")


def show_words(transcript: Transcript) -> None:
    """Print words with their times, as Whisper does."""
    if manner().json:
        return
    for cue in cues(transcript):
        who = f"{cue.speaker}: " if cue.speaker else ""
        say(f"[{_clock(cue.start)} --> {_clock(cue.end)}] {who}{cue.text}")


def show_table(rows: Sequence[tuple[Path, str, Row]]) -> None:
    """Print a table of videos: the name, the status and what is told of each."""
    used = [name for name in COLUMNS if any(row.get(name) is not None for _, _, row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    for name in used:
        table.add_column(name, justify="right")
    table.add_column("status")
    for video, status, row in rows:
        table.add_row(video.name, *(_cell(row.get(name)) for name in used), status)
    show(table)


def write_table(path: Path, rows: Sequence[tuple[Path, str, Row]]) -> None:
    """Write the same as comma-separated values, with the whole path of each video."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", *COLUMNS, "status"])
    for video, status, row in rows:
        writer.writerow([str(video), *("" if row.get(name) is None else row[name] for name in COLUMNS), status])
    text = buffer.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    write_text(path, text)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _clock(milliseconds: int) -> str:
    minutes, rest = divmod(milliseconds, 60_000)
    hours = f"{minutes // 60:02d}:" if minutes >= 60 else ""
    return f"{hours}{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
