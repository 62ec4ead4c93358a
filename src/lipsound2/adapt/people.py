"""Embeddings of the voices and pictures of the faces of clips -> who is seen and heard, and in which clips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from lipsound2.adapt.look import Look

SAME_VOICE = 0.72
"""Mean cosine from which on clips are of one voice; measured means: one voice from .86 on, two up to .63."""
SAME_FACE = 0.55
"""Mean correlation from which on pictures are of one face; measured means: one face from .77 on, two up to .41."""
OTHER_ROOM = 0.6
"""Mean cosine from which on two voices of one face are one, recorded differently; below it someone else is heard."""


@dataclass(frozen=True)
class Person:
    """Clips of one voice.

    Attributes:
        clips: Their looks.
    """

    clips: tuple[Look, ...]

    @property
    def speech(self) -> float:
        """Seconds of speech."""
        return sum(look.level.speech for look in self.clips)


def find_people(looks: Sequence[Look]) -> list[Person]:
    """Group clips by their voices, the one who speaks most first; nearly alike voices of one face are one person.

    Clips in which too little is said to know the voice are left out.
    """
    heard = [look for look in looks if look.voice]
    groups = cluster([look.voice for look in heard], SAME_VOICE)
    people: list[Person] = []
    for group in sorted(groups, key=lambda group: -sum(heard[i].level.speech for i in group)):
        own = tuple(heard[i] for i in group)
        like = next((i for i, other in enumerate(people) if _same(other.clips, own)), None)
        if like is None:
            people.append(Person(own))
        else:
            people[like] = Person(people[like].clips + own)
    return sorted(people, key=lambda person: -person.speech)


def count_faces(looks: Sequence[Look]) -> list[int]:
    """Return how many clips show each face, the most frequent first."""
    seen = [look.face for look in looks if look.face]
    return sorted((len(group) for group in cluster(seen, SAME_FACE)), reverse=True)


def _same(one: Sequence[Look], other: Sequence[Look]) -> bool:
    """Return whether two groups of clips are one person: faces alike, and voices nearly so."""
    faces, voices = (
        float((np.array([getattr(a, name) for a in one]) @ np.array([getattr(b, name) for b in other]).T).mean())
        for name in ("face", "voice")
    )
    return faces >= SAME_FACE and voices >= OTHER_ROOM


def cluster(vectors: Sequence[Sequence[float]], least: float) -> list[list[int]]:
    """Group vectors of length 1 by average linkage, as long as the mean cosine of two groups is at least `least`."""
    if len(vectors) < 2:
        return [[i] for i in range(len(vectors))]
    tree = linkage(np.maximum(pdist(np.array(vectors), "cosine"), 0), "average")
    names = fcluster(tree, 1 - least, "distance")
    return [[int(i) for i in np.flatnonzero(names == name)] for name in np.unique(names)]
