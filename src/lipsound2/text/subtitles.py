"""A transcript -> text, SubRip, WebVTT and JSON files, and the cues of a subtitle track."""

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from lipsound2.text.alphabet import Transcript, Word

LINE, LINES = 42, 2
"""Characters a line and lines a cue, as broadcasters ask for."""
LONGEST = 7.0
"""Seconds that a cue may stay."""
PAUSE = 1.0
"""Seconds without a word that end a cue."""


class Cue(NamedTuple):
    """Words shown together, and when, in whole milliseconds."""

    words: tuple[Word, ...]
    text: str
    start: int
    end: int


def cues(transcript: Transcript) -> list[Cue]:
    """Part a transcript into cues: at pauses, and where one would be too long to read."""
    groups: list[list[Word]] = []
    for word in transcript.words:
        if groups and _fits(groups[-1], word, transcript.separator):
            groups[-1].append(word)
        else:
            groups.append([word])
    found = []
    for group in groups:
        start, end = round(1000 * group[0].start), round(1000 * group[-1].end)
        text = transcript.separator.join(word.text for word in group)
        found.append(Cue(tuple(group), text, start, max(end, start + 1)))
    return found


def to_text(transcript: Transcript) -> str:
    """Write the words on one line."""
    return transcript.text + "\n"


def to_srt(transcript: Transcript) -> str:
    """Write a SubRip file."""
    return "\n".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{_lines(cue.text.replace('-->', '->'))}\n"
        for number, cue in enumerate(cues(transcript), 1)
    )


def to_vtt(transcript: Transcript, notes: Sequence[str] = ()) -> str:
    """Write a WebVTT file, with what a viewer should know as comments."""
    comments = (f"NOTE {escape(' '.join(note.split()), quote=False)}\n" for note in notes)
    blocks = (
        f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{escape(_lines(cue.text), quote=False)}\n"
        for cue in cues(transcript)
    )
    return "\n".join(["WEBVTT\n", *comments, *blocks])


def to_json(transcript: Transcript, facts: Mapping[str, Any] | None = None) -> str:
    """Write the words with times and confidences, in the layout of Whisper's JSON.

    Args:
        transcript: The words.
        facts: More to write beside them, as `facts.facts` lists it.
    """
    segments = [
        {
            "id": number,
            "start": cue.start / 1000,
            "end": cue.end / 1000,
            "text": cue.text,
            "words": [
                {
                    "word": word.text,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "probability": round(word.confidence, 4),
                }
                for word in cue.words
            ],
        }
        for number, cue in enumerate(cues(transcript))
    ]
    whole = {"text": transcript.text, "segments": segments, "note": transcript.note, **(facts or {})}
    text = json.dumps(whole, ensure_ascii=False, indent=2)
    # A byte of a file's name that is no UTF-8 stands as half of a pair, which a file can only hold escaped.
    text = re.sub("[\\ud800-\\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
    return text + "\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {"txt": to_text, "srt": to_srt, "vtt": to_vtt, "json": to_json}
"""What a transcript can be written as, by suffix."""


def _fits(words: list[Word], word: Word, separator: str) -> bool:
    text = separator.join(each.text for each in [*words, word])
    return (
        word.start - words[-1].end <= PAUSE
        and word.end - words[0].start <= LONGEST
        and len(textwrap.wrap(text, LINE)) <= LINES
    )


def _lines(text: str) -> str:
    return "\n".join(textwrap.wrap(text, LINE))


def _time(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"
