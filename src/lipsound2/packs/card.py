"""A model card -> the card with front matter, by which Hugging Face lists a pack: licence, data, tags and scores."""

from collections.abc import Mapping
from typing import Any

import yaml

TAGS = ["lip-to-speech", "lip-reading", "visual-speech", "speech-synthesis"]
_FENCE = "---\n"


def with_front_matter(card: str, name: str, licence: str, trained_on: str, scores: Mapping[str, float]) -> str:
    """Return a card with front matter; one that has some already stays as it is.

    Args:
        card: In Markdown.
        name: Of the pack.
        licence: SPDX identifier.
        trained_on: The data, in words.
        scores: Figures by name, which begins with the metric.
    """
    if card.startswith(_FENCE):
        return card
    facts: dict[str, Any] = {
        "license": licence.lower(),
        "library_name": "lipsound2",
        "tags": TAGS,
        "datasets": [trained_on],
    }
    if scores:
        facts["metrics"] = sorted({_metric(each) for each in scores})
        facts["model-index"] = [{"name": name, "results": [_result(trained_on, scores)]}]
    return f"{_FENCE}{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=120)}{_FENCE}\n{card}"


def _metric(score: str) -> str:
    return score.split()[0].strip(",").lower()


def _result(trained_on: str, scores: Mapping[str, float]) -> dict[str, Any]:
    metrics = [{"type": _metric(name), "name": name, "value": value} for name, value in scores.items()]
    dataset = {"type": "lip-to-speech", "name": f"held-out clips of: {trained_on}"}
    return {"task": {"type": "lip-to-speech"}, "dataset": dataset, "metrics": metrics}
