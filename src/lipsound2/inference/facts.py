"""A `Speech` or a transcript -> the facts that `--json` and the JSON file tell of it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from lipsound2.text.alphabet import Transcript

if TYPE_CHECKING:
    from lipsound2.inference.pipeline import Speech

LONG_GAP = 1.0
"""Seconds without a face that are worth a warning."""
MEASURES = ("pictures", "familiarity")
"""Attributes of a speech that are told as they are."""


def facts(speech: "Speech") -> dict[str, Any]:
    """Return what is known of a speech, as plain data."""
    plain = asdict(replace(speech, windows=[]))
    return {
        "source": str(speech.source),
        "seconds": round(speech.seconds, 3),
        "faces": speech.faces,
        "gaps": [[round(start, 3), round(stop, 3)] for start, stop in speech.gaps],
        "notes": remarks(speech),
        **{name: plain[name] for name in MEASURES if name in plain},
        **(words(speech.transcript) if speech.transcript else {}),
    }


def words(transcript: Transcript) -> dict[str, Any]:
    """Return the text of a transcript, how sure the recogniser is in the mean, and why there may be no more."""
    return {"text": transcript.text, "confidence": _mean(transcript), "note": transcript.note}


def remarks(speech: "Speech") -> list[str]:
    """List what a user should know of a speech, a line each."""
    lines = list(speech.notes)
    long = [(start, stop) for start, stop in speech.gaps if stop - start >= LONG_GAP]
    if long:
        lines.append(f"no face at {_stretches(long)}; silence there")
    return lines


def _stretches(stretches: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{start:.1f}-{stop:.1f} s" for start, stop in stretches)


def _mean(transcript: Transcript) -> float | None:
    if not transcript.words:
        return None
    return round(sum(word.confidence for word in transcript.words) / len(transcript.words), 4)
