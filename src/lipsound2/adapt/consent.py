"""The word of whoever adapts a pack that the person agreed -> a file that is asked for once, and a line of the card."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lipsound2.errors import ConfigError
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.plans import read_plan

CONSENT_NAME = "consent.json"
QUESTION = "Did the person in these videos agree that their voice is learned, or are you this person?"


@dataclass(frozen=True)
class Consent:
    """That someone declared that the person agreed.

    Attributes:
        declared: By `--i-have-consent` or `at a terminal`.
        on: The day, as in ISO 8601.
    """

    declared: str
    on: str

    def __str__(self) -> str:
        return f"That the person agreed was declared on {self.on} {self.declared}."


def missing() -> ConfigError:
    """Return the error of a call without consent."""
    return ConfigError(
        "adapt learns a person's voice, for which their consent is needed",
        "if you have it, or are this person, add --i-have-consent",
    )


def read_consent(work: Path) -> Consent | None:
    """Return what was declared for a folder of work; None if nothing was."""
    known = read_plan(work / CONSENT_NAME)
    return Consent(str(known["declared"]), str(known["on"])) if {"declared", "on"} <= known.keys() else None


def declare(work: Path, how: str) -> Consent:
    """Keep that the person agreed."""
    consent = Consent(how, datetime.now(UTC).date().isoformat())
    write_text(work / CONSENT_NAME, json.dumps(asdict(consent)) + "\n")
    return consent
