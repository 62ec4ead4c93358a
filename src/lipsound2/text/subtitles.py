"""A transcript -> text, SubRip, WebVTT and JSON files, and the cues of a subtitle track; who speaks is named."""

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from lipsound2.text.alphabet import Transcript, Word

LINE, LINES = 42, 2
"""Characters a line and lines a cue, as broadcasters ask for."""
LONGEST = 7.0
"""Seconds that a cue may stay."""
PAUSE = 1.0
"""Seconds without a word that end a cue."""


class Cue(NamedTuple):
    """Words shown together, and when, in whole milliseconds.

    Attributes:
        words: The words.
        text: What is shown, without line breaks but where another speaker begins.
        start, end: When.
        speaker: Who says them, where several do.
    """

    words: tuple[Word, ...]
    text: str
    start: int
    end: int
    speaker: str = ""


def cues(transcript: Transcript) -> list[Cue]:
    """Split a transcript into cues: at the ends of stretches, at pauses, and where one would be too long to read.

    Only cues of different speakers overlap.
    """
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
        found.append(Cue(tuple(group), text, start, max(end, start + 1), group[0].speaker))
    return sorted(found, key=lambda cue: cue.start)


def lone_cues(transcript: Transcript) -> list[Cue]:
    """Return cues of which none overlap, for formats that show one at a time: each names its speakers, a line each."""
    found = cues(transcript)
    if not any(cue.speaker for cue in found):
        return found
    edges = sorted({edge for cue in found for edge in (cue.start, cue.end)})
    lone: list[Cue] = []
    for start, end in pairwise(edges):
        heard = [cue for cue in found if cue.start < end and start < cue.end]
        if heard:
            words = tuple(word for cue in heard for word in cue.words)
            lone.append(Cue(words, "\n".join(_named(cue.speaker, cue.text) for cue in heard), start, end))
    return lone


def to_text(transcript: Transcript) -> str:
    """Write the words on one line, or a line for each stretch of a speaker."""
    turns = groupby(transcript.words, lambda word: (word.stretch, word.speaker))
    if not any(word.speaker for word in transcript.words):
        return transcript.text + "\n"
    return "".join(
        f"{_named(speaker, transcript.separator.join(word.text for word in words))}\n" for (_, speaker), words in turns
    )


def to_srt(transcript: Transcript) -> str:
    """Write a SubRip file."""
    return "\n".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{_lines(cue.text.replace('-->', '->'))}\n"
        for number, cue in enumerate(lone_cues(transcript), 1)
    )


def to_vtt(transcript: Transcript, notes: Sequence[str] = (), title: str = "") -> str:
    """Write a WebVTT file, with what a viewer should know in its header and as comments."""
    header = f"WEBVTT {' '.join(title.replace('-->', '->').split())}".rstrip()
    header += f"\nLanguage: {transcript.language}\n" if transcript.language else "\n"
    comments = (f"NOTE {escape(' '.join(note.split()), quote=False)}\n" for note in notes)
    blocks = (f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{_voiced(cue)}\n" for cue in cues(transcript))
    return "\n".join([header, *comments, *blocks])


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
            **({"speaker": cue.speaker} if cue.speaker else {}),
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
    told = {"language": transcript.language} if transcript.language else {}
    whole = {"text": transcript.text, "segments": segments, "note": transcript.note, **told, **(facts or {})}
    text = json.dumps(whole, ensure_ascii=False, indent=2)
    # A byte of a file's name that is no UTF-8 stands as half of a pair, which a file can only hold escaped.
    text = re.sub("[\\ud800-\\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
    return text + "\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {"txt": to_text, "srt": to_srt, "vtt": to_vtt, "json": to_json}
"""What a transcript can be written as, by suffix."""


def _fits(words: list[Word], word: Word, separator: str) -> bool:
    text = separator.join(each.text for each in [*words, word])
    return (
        (word.stretch, word.speaker) == (words[-1].stretch, words[-1].speaker)
        and word.start - words[-1].end <= PAUSE
        and word.end - words[0].start <= LONGEST
        and len(textwrap.wrap(text, LINE)) <= LINES
    )


def _lines(text: str) -> str:
    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, LINE))


def _named(speaker: str, text: str) -> str:
    return f"{speaker}: {text}" if speaker else text


def _voiced(cue: Cue) -> str:
    """Return a cue's text with the voice it belongs to, in WebVTT's markup."""
    text = escape(_lines(cue.text), quote=False)
    return f"<v {escape(' '.join(cue.speaker.split()), quote=False)}>{text}" if cue.speaker else text


def _time(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"
