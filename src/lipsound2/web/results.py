"""A `Speech` -> the files that a visitor can fetch, and the facts that the page shows."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lipsound2.inference.speech import Speech, facts
from lipsound2.runtime.atomic import atomic_path
from lipsound2.text.alphabet import Word

FORMATS = ("mp4", "wav", "png")
WORDED = ("txt", "srt", "vtt", "json")
"""Formats of speech that was read."""
NAME = "speech"
ALL = f"{NAME}.zip"


def publish(speech: Speech, folder: Path, shown: str, report: Callable[[str, float], None]) -> dict[str, Path]:
    """Write all files of a speech.

    Args:
        speech: From a file whose name is ours.
        folder: Where they go.
        shown: Name of the video as its sender knows it, which stands in the figure and in JSON.
        report: Told how much is done.

    Returns:
        The files by their names.
    """
    named = replace(speech, source=Path(shown))
    formats = [*FORMATS, *(WORDED if speech.transcript else ())]
    written: list[Path] = []
    for done, each in enumerate(formats):
        report("writing", done / len(formats))
        written += (speech if each == "mp4" else named).save(folder, NAME, (each,), force=True)
    return {path.name: path for path in written}


def pack_all(files: dict[str, Path], target: Path) -> None:
    """Write the files of a speech as one ZIP archive; what is in it is compressed already."""
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files.items():
            archive.write(path, f"{NAME}/{name}")


def tell(speech: Speech, unknown: bool) -> dict[str, Any]:
    """Return what the page shows.

    Args:
        speech: The speech.
        unknown: Whether the pack does not know the face.
    """
    told = facts(speech)
    words = speech.transcript.words if speech.transcript else ()
    return {
        "seconds": told["seconds"],
        "notes": told["notes"],
        "gaps": told["gaps"],
        "familiarity": told["familiarity"],
        "unknown": unknown,
        "text": told.get("text"),
        "note": told.get("note"),
        "confidence": told.get("confidence"),
        "words": [_word(word) for word in words],
    }


def _word(word: Word) -> dict[str, Any]:
    times = {"start": round(word.start, 3), "end": round(word.end, 3)}
    return {"text": word.text, **times, "confidence": round(word.confidence, 4)}
