"""Looks at clips, and the videos that failed -> what there is, what speaks against it, and the clips that are used."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipsound2.adapt.languages import guess_language
from lipsound2.adapt.look import Look
from lipsound2.adapt.people import Person, count_faces, find_people
from lipsound2.adapt.sync import Lag, find_lag
from lipsound2.errors import DataError

LEAST, GOOD = 30.0, 180.0
"""Seconds of speech: fewer are refused; below the second it is said that more would be better."""
FEWEST = 8
"""Clips that are needed, so that some can be held out."""
OTHERS = 0.2
"""Share of the speech that may be other people's; their clips are left out."""
LATE = 0.12
"""Seconds by which sound may be late or early; recordings have some hundredths."""
NOISY, CLIPPED, CLIPPED_CLIPS = 15.0, 0.002, 0.1
"""dB between speech and noise; share of samples that may be clipped, and of clips with more."""


@dataclass(frozen=True)
class Survey:
    """What there is.

    Attributes:
        source: The folder.
        videos: Videos in it.
        failures: Videos that cannot be used, by reason.
        lost: Seconds of the others that cannot be used, by reason.
        people: Who is heard, the person first.
        faces: Clips of the person that show each face.
        lag: By how much the person's sound is late, or None if that cannot be told.
        noise: dB between speech and noise, the median of the person's clips.
        clipped: Share of these clips in which the sound is clipped.
        transcripts: Transcripts of these clips by key.
        language: That they seem to be in, or empty.
    """

    source: Path
    videos: int
    failures: Mapping[str, int]
    lost: Mapping[str, float]
    people: tuple[Person, ...]
    faces: tuple[int, ...]
    lag: Lag | None
    noise: float
    clipped: float
    transcripts: Mapping[str, str]
    language: str

    @property
    def kept(self) -> tuple[Look, ...]:
        """The person's clips."""
        return self.people[0].clips if self.people else ()

    @property
    def seconds(self) -> float:
        """Seconds of the person's clips."""
        return sum(look.level.seconds for look in self.kept)

    @property
    def speech(self) -> float:
        """Seconds of speech in them."""
        return sum(look.level.speech for look in self.kept)


def survey(
    source: Path,
    videos: int,
    failures: Mapping[str, int],
    looks: Sequence[Look],
    transcripts: Mapping[str, str],
    rate: float,
    person: str | None = None,
    lost: Mapping[str, float] | None = None,
) -> Survey:
    """Put together what was seen and heard.

    Args:
        source: The folder.
        videos: Videos in it.
        failures: Videos that could not be prepared, by reason.
        looks: At all clips.
        transcripts: By key, of the clips that have one.
        rate: Mel frames a second of the pack.
        person: Name of a video of the person, or None for whoever speaks most.
        lost: Seconds of these videos that could not be prepared, by reason.

    Raises:
        DataError: There is no usable video of the person of that name.
    """
    broken = Counter(f"its clip is damaged ({look.error})" for look in looks if look.error)
    people = find_people([look for look in looks if not look.error])
    if person is not None:
        people.sort(key=lambda each: not any(_named(look, person) for look in each.clips))
        if not people or not any(_named(look, person) for look in people[0].clips):
            raise DataError(f"{person} is no video of {source} in which a voice is heard", "give its name below it")
    own = people[0].clips if people else ()
    texts = {look.key: transcripts[look.key] for look in own if look.key in transcripts}
    noise = float(np.median([look.level.loud - look.level.noise for look in own])) if own else 0.0
    clipped = float(np.mean([look.level.clipped > CLIPPED for look in own])) if own else 0.0
    lag = find_lag([look.sums for look in own if look.sums], rate)
    faces, language = tuple(count_faces(own)), guess_language(texts.values()) if texts else ""
    unusable, left = dict(failures) | broken, dict(lost or {})
    return Survey(source, videos, unusable, left, tuple(people), faces, lag, noise, clipped, texts, language)


def lines(found: Survey) -> list[str]:
    """Say what there is, a line each."""
    told = [f"{found.source}: {_count(found.videos, 'video')}, {minutes(found.seconds)} with a face"]
    told += [f"left out: {_count(number, 'video')}: {reason}" for reason, number in found.failures.items()]
    if not found.kept:
        return told
    told += [f"left out: {minutes(seconds)}: {reason}" for reason, seconds in found.lost.items() if seconds >= 0.5]
    told.append(f"speech: {minutes(found.speech)} in {_count(len(found.kept), 'clip')}")
    others = found.people[1:]
    if others:
        left = sum(len(other.clips) for other in others)
        told.append(f"voices: {len(found.people)}; the one who speaks most, {_count(left, 'clip')} of others left out")
    else:
        told.append("voices: 1")
    told.append(f"faces: {len(found.faces)} ({', '.join(_count(number, 'clip') for number in found.faces)})")
    told.append(f"sound and picture: {_in_step(found.lag)}")
    told.append(f"noise: {found.noise:.0f} dB below the speech; clipped: {found.clipped:.0%} of the clips")
    if found.transcripts:
        words = {word for text in found.transcripts.values() for word in text.lower().split()}
        language = "language unknown" if found.language == "unknown" else found.language
        told.append(
            f"transcripts: of {len(found.transcripts)} of {_count(len(found.kept), 'clip')}, {language}, "
            f"{_count(len(words), 'word')}"
        )
    else:
        told.append("transcripts: none")
    return told


def warnings(found: Survey) -> list[str]:
    """List what may spoil the result, a line each."""
    told = []
    if found.speech < GOOD:
        told.append(
            f"{minutes(found.speech)} of speech are little: {minutes(GOOD - found.speech)} more make a clearer voice"
        )
    if found.noise < NOISY:
        told.append(f"the noise is only {found.noise:.0f} dB below the speech; the voice will sound like it")
    if found.clipped > CLIPPED_CLIPS:
        told.append(f"the sound of {found.clipped:.0%} of the clips is clipped; record with less gain")
    if found.lag is None or not found.lag.clear:
        told.append("whether sound and picture are in step cannot be told: lips and sound hardly agree")
    if len(found.faces) > 1 and found.faces[1] > OTHERS * sum(found.faces):
        told.append(
            f"one voice, but {len(found.faces)} looks of the face: see that nobody else is seen while the person speaks"
        )
    return told


def check(found: Survey) -> None:
    """Refuse what no voice can be learned from.

    Raises:
        DataError: Why, on one line, and what is missing.
    """
    if not found.people:
        raise _nothing(found)
    others = sum(other.speech for other in found.people[1:])
    if others > OTHERS * (others + found.speech):
        one, two = (person.clips[0].id for person in found.people[:2])
        raise DataError(
            f"{found.source} holds {len(found.people)} voices by turns: {minutes(found.speech)} as in {one}, "
            f"{minutes(others)} as in {two}",
            f"put one person's videos into a folder of its own, or name a video of the person: --person {one}",
        )
    check_lag(found)
    if found.speech < LEAST:
        raise DataError(
            f"{found.source} holds {minutes(found.speech)} of speech with a face, at least {minutes(LEAST)} are needed",
            f"add {minutes(LEAST - found.speech)} or more; {minutes(GOOD)} are better",
        )
    if len(found.kept) < FEWEST:
        raise DataError(
            f"{found.source} holds {_count(len(found.kept), 'clip')} of the person, at least {FEWEST} are needed",
            "cut the videos into shorter ones: some are held out to measure the result",
        )


def check_lag(found: Survey) -> None:
    """Refuse sound that is out of step.

    Raises:
        DataError: It is, by so much.
    """
    lag = found.lag
    if lag and lag.clear and abs(lag.seconds) > LATE:
        shift = f"{-lag.seconds:+.2f}"
        raise DataError(
            f"{found.source}: the sound is {_late(lag.seconds)} than the picture (dubbed, or out of step)",
            f"shift it: ffmpeg -i IN.mp4 -itsoffset {shift} -i IN.mp4 -map 0:v -map 1:a -c copy OUT.mp4",
        )


def reasons(failures: Sequence[Mapping[str, object]]) -> dict[str, int]:
    """Count the videos that could not be prepared, by reason; numbers and names are left out of it."""
    found = Counter(_reason(str(row.get("reason", "")), str(row.get("video", ""))) for row in failures)
    return dict(found.most_common())


def minutes(seconds: float) -> str:
    """Return a duration in words.

    >>> minutes(90), minutes(12.4)
    ('1.5 minutes', '12 seconds')
    """
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _nothing(found: Survey) -> DataError:
    if found.failures and sum(found.failures.values()) >= found.videos:
        told = "; ".join(f"{reason} ({number} of {found.videos})" for reason, number in found.failures.items())
        return DataError(
            f"no video of {found.source} can be used: {told}",
            "videos with a face that looks at the camera, and its sound, are needed",
        )
    return DataError(
        f"{found.source}: nobody is heard in any of the {_count(found.videos, 'video')}",
        "videos with the person's own sound are needed",
    )


def _reason(message: str, video: str) -> str:
    text = message.replace(f"{video}: ", "").replace(f"{video} has", "it has").replace(video, "the video").strip()
    return re.sub(r"\d+(\.\d+)?", "...", text)


def _named(look: Look, person: str) -> bool:
    stem = person.rsplit(".", 1)[0]
    return look.id.split("#")[0] in (person, stem)


def _in_step(lag: Lag | None) -> str:
    if lag is None or not lag.clear:
        return "cannot be told"
    return f"in step within {abs(lag.seconds) * 1000:.0f} ms" if abs(lag.seconds) <= LATE else _late(lag.seconds)


def _late(seconds: float) -> str:
    return f"{abs(seconds):.2f} s {'later' if seconds > 0 else 'earlier'}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
