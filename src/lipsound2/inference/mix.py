"""The voices of several faces of one video -> one `Speech` in which all are heard."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from jaxtyping import Float32

from lipsound2.faces import FaceTrack
from lipsound2.inference.speech import Speech

Gaps = list[tuple[float, float]]


def layers(tracks: Sequence[FaceTrack]) -> list[list[FaceTrack]]:
    """Part tracks into as few groups as possible in which none overlap, so that a pass over the video speaks each."""
    found: list[list[FaceTrack]] = []
    for track in sorted(tracks, key=lambda track: track.start):
        free = next((layer for layer in found if layer[-1].stop <= track.start), None)
        if free is None:
            found.append([track])
        else:
            free.append(track)
    return found


def mixed(voices: Sequence[Speech]) -> Speech:
    """Sum voices of the same length; where that exceeds full scale all is made quieter."""
    first = voices[0]
    wave: Float32[np.ndarray, " samples"] = np.stack([voice.wave for voice in voices]).sum(axis=0)
    loudest = float(np.abs(wave).max(initial=0.0))
    measures = [voice.familiarity for voice in voices if voice.familiarity is not None]
    return replace(
        first,
        wave=wave / np.float32(max(1.0, loudest)),
        mel=reduce(np.maximum, (voice.mel for voice in voices)),
        before=reduce(np.maximum, (voice.before for voice in voices)),
        windows=[window for voice in voices for window in voice.windows],
        gaps=shared([voice.gaps for voice in voices]),
        notes=tuple(dict.fromkeys(note for voice in voices for note in voice.notes)),
        familiarity=min(measures, default=None),
        stretches=tuple(sorted((each for voice in voices for each in voice.stretches), key=lambda each: each[:3])),
    )


def shared(gaps: Sequence[Gaps]) -> Gaps:
    """Return what lies in a gap of every list.

    >>> shared([[(0, 2), (5, 9)], [(1, 6)]])
    [(1, 2), (5, 6)]
    """

    def both(one: Gaps, other: Gaps) -> Gaps:
        found = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
        return sorted((start, stop) for start, stop in found if start < stop)

    return reduce(both, gaps)
