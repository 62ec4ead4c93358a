"""Phones and their times -> where the speech organs are in each video frame, with coarticulation.

Each phone pulls each organ to its target, most strongly while it sounds and less before and after
(dominance functions, Cohen & Massaro 1993), so that lips round before "two" begins and a short vowel
between two consonants is not reached. Contacts that cannot be missed (lips in p, b, m, lip and teeth
in f, v, tongue and teeth in th) are held on top of that, for longer than a frame lasts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lipsound2.simulate.mouth import Articulation
from lipsound2.simulate.voice import Timed

ORGANS = Articulation._fields
CONTACTS = ("close", "tuck", "between")
SHORTEST_HOLD = 0.06
"""Seconds that a contact is held at least; longer than the 0.04 s between two frames."""
APPROACH, RELEASE = 0.075, 0.065
"""Seconds that it takes to close and to open a contact."""
STOP_RELEASE = 0.012
"""Seconds before the end of p or b at which the lips part."""
REACH = {"pucker": 0.11, "funnel": 0.10, "wide": 0.08, "jaw": 0.065, "tip": 0.045, "between": 0.05}
"""Seconds over which a phone's pull on an organ fades; 0.06 for the others."""


class Target(NamedTuple):
    """Where a phone pulls the organs, and how strongly; organs it does not name are pulled to 0 by `rest`."""

    organs: dict[str, float]
    strength: float = 1.0
    rest: float = 0.15


VOWELS = {
    "i": {"jaw": 0.20, "wide": 0.75, "upper": 0.25, "lower": 0.25, "body": 0.7},
    "ɪ": {"jaw": 0.30, "wide": 0.45, "upper": 0.20, "lower": 0.20, "body": 0.5},
    "ɛ": {"jaw": 0.48, "wide": 0.35, "upper": 0.20, "lower": 0.15, "body": 0.3},
    "æ": {"jaw": 0.68, "wide": 0.38, "upper": 0.25, "lower": 0.15},
    "ɑ": {"jaw": 0.85, "wide": 0.05, "upper": 0.15},
    "ɒ": {"jaw": 0.65, "funnel": 0.35, "upper": 0.1},
    "ɔ": {"jaw": 0.55, "funnel": 0.45, "pucker": 0.15},
    "ʌ": {"jaw": 0.52, "upper": 0.12},
    "ə": {"jaw": 0.32, "upper": 0.1},
    "ɐ": {"jaw": 0.38, "upper": 0.1},
    "ɜ": {"jaw": 0.36, "funnel": 0.3, "upper": 0.1},
    "ʊ": {"jaw": 0.28, "funnel": 0.3, "pucker": 0.4},
    "u": {"jaw": 0.16, "funnel": 0.2, "pucker": 0.85},
}
DIPHTHONGS = {
    "eɪ": ("ɛ", "i"),
    "aɪ": ("ɑ", "ɪ"),
    "oʊ": ("ɔ", "u"),
    "əʊ": ("ə", "u"),
    "aʊ": ("æ", "u"),
    "ɔɪ": ("ɔ", "ɪ"),
}
_LIPS = Target({"close": 1.0, "jaw": 0.10}, rest=0.1)
_TEETH = Target({"tuck": 1.0, "jaw": 0.12, "upper": 0.15}, rest=0.2)
_TH = Target({"between": 1.0, "jaw": 0.28, "upper": 0.25, "lower": 0.35}, rest=0.25)
_TIP = Target({"tip": 1.0, "jaw": 0.20, "upper": 0.15, "lower": 0.15}, 1.2, 0.1)
_HISS = Target({"jaw": 0.07, "wide": 0.35, "upper": 0.30, "lower": 0.40, "tip": 0.4}, 2.5, 0.3)
_HUSH = Target({"jaw": 0.12, "funnel": 0.75, "pucker": 0.2, "upper": 0.3, "lower": 0.35}, 2.5, 0.4)
_BACK = Target({"body": 1.0, "jaw": 0.25}, 0.6, 0.08)
CONSONANTS = {
    **dict.fromkeys("pbm", _LIPS),
    **dict.fromkeys("fv", _TEETH),
    **dict.fromkeys("θð", _TH),
    **dict.fromkeys("tdn", _TIP),
    **dict.fromkeys("sz", _HISS),
    **dict.fromkeys(("ʃ", "ʒ", "tʃ", "dʒ"), _HUSH),
    **dict.fromkeys("kɡŋ", _BACK),
    "ɾ": Target({"tip": 0.8, "jaw": 0.25}, 0.5, 0.05),
    "l": Target({"tip": 1.0, "jaw": 0.34, "upper": 0.2, "lower": 0.2}, 0.9, 0.1),
    "ɹ": Target({"jaw": 0.20, "funnel": 0.4, "pucker": 0.3}, 1.5, 0.3),
    "w": Target({"jaw": 0.12, "pucker": 0.95, "funnel": 0.1}, 3.0, 0.4),
    "j": Target({"jaw": 0.18, "wide": 0.5, "body": 0.8}, 0.8, 0.2),
    "h": Target({}, 0.1, 0.02),
    "ʔ": Target({}, 0.1, 0.02),
}
SILENCE = Target({}, 0.7, 0.7)
SEALED, PARTING = 0.9, 0.14
"""How firmly the lips rest on each other in silence, and how many seconds before speech they part."""
STRESSED, UNSTRESSED = 1.12, 0.85
"""How much wider the jaw opens for a vowel that is stressed or not."""


class _Pull(NamedTuple):
    """A target and the time in seconds in which it is fully felt."""

    target: Target
    start: float
    end: float


def articulate(
    phones: Sequence[Timed], times: Float[np.ndarray, " moments"], ends: float
) -> Float[np.ndarray, "moments organs"]:
    """Find where the speech organs, in the order of `ORGANS`, are at each of `times`.

    Args:
        phones: What is said, in order.
        times: Moments to be seen in seconds, such as the middles of the video frames.
        ends: When the clip ends; there is silence before the first phone and after the last.
    """
    pulls = _pulls(phones, ends)
    organs = np.stack([_blend(pulls, organ, times) for organ in ORGANS], axis=1)
    for organ in CONTACTS:
        holds = [_hold(phone, times) for phone in phones if organ in _target(phone.label).organs]
        organs[:, ORGANS.index(organ)] = np.max(holds, axis=0, initial=0.0)
    close = ORGANS.index("close")
    parted = (1 - organs[:, close]) * (1 - SEALED * _silence(phones, times, ends))
    organs[:, close] = 1 - parted
    return organs


def _target(label: str) -> Target:
    """Return the target of a phone in IPA; of a diphthong, where it begins."""
    if label in CONSONANTS:
        return CONSONANTS[label]
    return Target(VOWELS[DIPHTHONGS.get(label, (label,))[0]], 1.0, 0.8)


def _pulls(phones: Sequence[Timed], ends: float) -> list[_Pull]:
    pulls = [_Pull(SILENCE, -1.0, phones[0].start - 0.1), _Pull(SILENCE, phones[-1].end + 0.12, ends + 1.0)]
    for phone in phones:
        parts = DIPHTHONGS.get(phone.label, (phone.label,))
        edges = np.linspace(phone.start, phone.end, len(parts) + 1)
        for label, start, end in zip(parts, edges[:-1], edges[1:], strict=True):
            aim = _target(label)
            if label in VOWELS:
                opening = aim.organs["jaw"] * (STRESSED if phone.stressed else UNSTRESSED)
                aim = aim._replace(organs={**aim.organs, "jaw": opening})
            quarter = (end - start) / 4
            pulls.append(_Pull(aim, start + quarter, end - quarter))
    return pulls


def _blend(pulls: Sequence[_Pull], organ: str, times: Float[np.ndarray, " moments"]) -> Float[np.ndarray, " moments"]:
    """Average the targets for one organ, each weighted by its dominance at that time."""
    total, weight = np.zeros(len(times)), np.full(len(times), 1e-9)
    for pull in pulls:
        strength = pull.target.strength if organ in pull.target.organs else pull.target.rest
        away = np.maximum(pull.start - times, times - pull.end).clip(0)
        dominance = strength * np.exp(-((away / REACH.get(organ, 0.06)) ** 1.4))
        total += dominance * pull.target.organs.get(organ, 0.0)
        weight += dominance
    return total / weight


def _hold(phone: Timed, times: Float[np.ndarray, " moments"]) -> Float[np.ndarray, " moments"]:
    """Return the envelope of a contact: 1 while it is held, with smooth flanks."""
    end = phone.end - (STOP_RELEASE if phone.label in "pb" else 0.0)
    start = min(phone.start, end - SHORTEST_HOLD)
    before, after = (start - times) / APPROACH, (times - end) / RELEASE
    flank = np.clip(np.maximum(before, after), 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * flank)


def _silence(
    phones: Sequence[Timed], times: Float[np.ndarray, " moments"], ends: float
) -> Float[np.ndarray, " moments"]:
    """Return the silence envelope: 1 well before the first phone, after the last and in long pauses between."""
    parted = [phone for phone in phones if "close" not in _target(phone.label).organs]
    edges = [-1.0, *(edge for phone in parted for edge in (phone.start, phone.end)), ends + 1.0]
    quiet = np.zeros(len(times))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        inside = np.minimum(times - start, end - times)
        quiet = np.maximum(quiet, np.clip(inside / PARTING, 0, 1))
    return quiet * quiet * (3 - 2 * quiet)
