"""Reference and hypothesis -> WER and CER, for each recogniser."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from lipsound2.errors import ConfigError
from lipsound2.evaluation.metrics import WORD_METRICS, Metric, UnmeasurableError
from lipsound2.evaluation.score import Scores
from lipsound2.evaluation.sound import RATE, Sound
from lipsound2.inference.recognizers import choose
from lipsound2.recognizer.base import Recognizer, transcribe_wave
from lipsound2.recognizer.sphinx import SphinxRecognizer
from lipsound2.recognizer.transcriber import JasperRecognizer
from lipsound2.text.alphabet import error_rates

AUTO = "auto"
"""Name of all recognisers that are installed and need no network."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def metrics(judge: str) -> tuple[Metric, Metric]:
    """Return the metrics WER and CER of a recogniser."""
    short = re.sub(r"\W+", "-", Path(judge).name if "/" in judge else judge).strip("-")
    setting = "edits over all words together; lower case, no punctuation, digits spelled out"
    characters = "edits over all characters together, spaces included; as the words"
    return (
        Metric(f"wer_{short}", f"WER by {short}", "words", setting, "lipsound2", "%", 1, False, "words"),
        Metric(f"cer_{short}", f"CER by {short}", "words", characters, "lipsound2", "%", 1, False, "characters"),
    )


def find_judges(wanted: tuple[str, ...], packed: Path | None, grammar: str | None = None) -> tuple[str, ...]:
    """Name the recognisers that listen.

    `auto` stands for the pack's own, if it has one, and PocketSphinx, if it is installed and a grammar
    is known; without one its WER is high even on the reference audio.
    """
    names: list[str] = []
    for name in wanted:
        if name != AUTO:
            names.append(name)
            continue
        names += [JasperRecognizer.name] if packed else []
        names += [f"{SphinxRecognizer.name}:{grammar}"] if grammar and SphinxRecognizer.installed() else []
    return tuple(dict.fromkeys(names))


def judges_for(named: Sequence[str], judges: tuple[str, ...]) -> tuple[str, ...]:
    """Return the recognisers that give the error rates among some metrics; all where none is among them.

    Raises:
        ConfigError: No recogniser gives one of them.
    """
    wanted = {name for name in named if name.startswith(WORD_METRICS)}
    given = {judge: {metric.name for metric in metrics(judge)} for judge in judges}
    lost = sorted(wanted - {name for names in given.values() for name in names})
    if lost:
        known = ", ".join(sorted(name for names in given.values() for name in names)) or "none"
        raise ConfigError(f"no recogniser gives {lost[0]!r}", f"known: {known}; more with --recognizer")
    return tuple(judge for judge, names in given.items() if not wanted or names & wanted)


def load_judge(name: str, packed: Path | None, device: str) -> Recognizer:
    """Load a recogniser by the name that a user gave: `pocketsphinx`, `pocketsphinx:GRAMMAR`, or as in `choose`."""
    kind, _, grammar = name.partition(":")
    return SphinxRecognizer(grammar) if kind == SphinxRecognizer.name else choose(name, packed, device)


def listen(judge: Recognizer, sound: Sound | str, transcript: str | None) -> str:
    """Transcribe audio with a recogniser.

    Raises:
        UnmeasurableError: There is no audio, or no reference to compare it with.
    """
    if transcript is None or not normalize(transcript):
        raise UnmeasurableError("the clip has no transcript")
    if isinstance(sound, str):
        raise UnmeasurableError(sound)
    return normalize(transcribe_wave(judge, sound.wave, RATE).text)


def score_words(scores: Scores, judge: str, heard: str, transcript: str) -> None:
    """Add both error rates of a clip, in %."""
    wer, cer = metrics(judge)
    rates = error_rates([(normalize(transcript), heard)])
    scores.figures |= {wer.name: 100 * rates.wer, cer.name: 100 * rates.cer}


def normalize(text: str) -> str:
    """Bring transcripts of different habits into one form.

    >>> normalize("Set white at B 2, now!")
    'set white at b two now'
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = re.sub(r"(?<![0-9])([0-9])(?![0-9])", lambda found: f" {_DIGITS[int(found[1])]} ", text)
    kept = "".join(character if character.isalnum() or character == "'" else " " for character in text)
    return ("" if _unspaced(kept) else " ").join(kept.split())


def _unspaced(text: str) -> bool:
    """Return whether a script is written without spaces, as Chinese is; then only CER is meaningful."""
    return any("一" <= character <= "鿿" for character in text)
