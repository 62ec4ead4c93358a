"""What was found, done and measured -> the model card and the metadata of an adapted pack."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lipsound2.adapt.consent import Consent
from lipsound2.adapt.plan import Plan
from lipsound2.adapt.survey import Survey, lines, minutes, warnings
from lipsound2.adapt.words import Choice
from lipsound2.evaluation.summary import PACK, Summary
from lipsound2.packs import PackInfo

SHOWN = ("stoi", "estoi", "mcd", "speaker_similarity", "wer_jasper")
"""Metrics of the card, as far as they were measured."""
LICENCE = "LicenseRef-personal"
READERS = {
    "pack": "of the pack that it started from",
    "adapted": "adapted to the generated speech, with a language model of the transcripts",
    "mixed": "adapted to the generated speech, with the language model of the pack that it started from",
}


def scores(after: Summary) -> dict[str, float]:
    """Return the figures of a pack by the labels of their metrics, rounded as they are shown."""
    found = after.figures[PACK]
    return {
        f"{metric.label} {metric.unit}".strip(): round(mean, metric.digits)
        for metric in after.metrics
        if metric.name in SHOWN and (mean := found[metric.name].mean) is not None
    }


def table(before: Summary, after: Summary) -> list[str]:
    """Return the lines of a Markdown table of both packs on the held-out clips."""
    rows = ["| held-out clips | before | after |", "|---|---|---|"]
    for metric in after.metrics:
        if metric.name in SHOWN:
            cells = []
            for summary in (before, after):
                mean = summary.figures[PACK][metric.name].mean if metric.name in summary.figures[PACK] else None
                cells.append("none" if mean is None else f"{mean:.{metric.digits}f}")
            rows.append(f"| {' '.join((metric.label, metric.unit)).strip()} | {' | '.join(cells)} |")
    return rows


def describe(name: str, version: str, base: PackInfo, found: Survey, after: Summary) -> PackInfo:
    """Return what the pack says of itself."""
    return PackInfo(
        name,
        version,
        LICENCE,
        f"{minutes(found.seconds)} of one person's videos, with their consent; started from {base.name} "
        f"{base.version} ({base.licence}): {base.trained_on}",
        base.vocoder,
        scores(after),
        f"one person ({name}), {minutes(found.speech)} of their speech",
    )


def write_card(
    info: PackInfo,
    base: PackInfo,
    found: Survey,
    plan: Plan,
    consent: Consent,
    reports: tuple[Summary, Summary],
    reader: Choice | None,
    clips: Mapping[str, int],
) -> str:
    """Write the model card in Markdown.

    Args:
        info: Of the new pack.
        base: Of the pack that it started from.
        found: What was found.
        plan: How the model was trained.
        consent: What was declared.
        reports: Of the held-out clips, before and after.
        reader: The recogniser, if it was chosen anew.
        clips: Number of clips by split.
    """
    before, after = reports
    found = replace(found, source=Path(found.source.name))  # where it lies is nobody's business
    train = plan.recipe.train
    parts: list[Sequence[str]] = [
        [f"# {info.name}", "", f"A voice adapted from {base.name} {base.version} ({base.trained_on})."],
        [
            "## Consent",
            "",
            str(consent),
            "The pack is of one person's voice: pass it on only as far as they agreed to.",
        ],
        ["## Material", "", *(f"- {line}" for line in lines(found)), *(f"- {line}" for line in warnings(found))],
        [
            "## Training",
            "",
            f"{clips.get('train', 0)} clips for training, {clips.get('val', 0)} to end it in time; at most "
            f"{plan.updates} updates of {train.batch_size} clips at a rate of {train.learning_rate:g}.",
            *([f"The recogniser is the one {READERS[reader.name]}."] if reader else []),
        ],
        [
            "## Scores",
            "",
            f"On {after.clips} held-out clips that were not trained on ({base.name} before, {info.name} after):",
            "",
            *table(before, after),
        ],
        [
            "## Limits",
            "",
            "It knows one face, one voice and the words of the videos. What it says of other faces is not to be "
            "trusted, and a reconstruction is no record of what was said.",
        ],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"
