"""A prepared folder, or a folder of videos -> clips with their reference audio and a way to reconstruct them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from lipsound2 import corpora, media
from lipsound2.audio import resample
from lipsound2.corpora import Clip
from lipsound2.data.fingerprint import FINGERPRINT, fingerprint
from lipsound2.data.shards import INDEX_NAME, Entry, clip_of, read_crops, read_index, read_wave
from lipsound2.errors import DataError, LipSoundError, MediaError
from lipsound2.evaluation.sound import Wave
from lipsound2.inference.pipeline import Pipeline
from lipsound2.runtime.remote import exists

FINGERPRINT_RATE = 16_000
ALL = "all"
"""Takes the clips of every split."""


@dataclass(frozen=True)
class Source:
    """Select the clips to evaluate.

    Attributes:
        data: What `lipsound2 prepare` wrote, or a folder of videos.
        corpus: Layout of a folder of videos, see `corpora.READERS`.
        split: `train`, `val`, `test` or `all`.
        speakers: Whose clips; empty takes all.
        limit: Take only so many clips, spread evenly; 0 takes all.
        protocol: That splits the clips, see `protocols.PROTOCOLS`; without one they keep their own splits.
        include_trained: Whether clips that the pack was trained on are kept in `val`, `test` and `all`.
    """

    data: Path
    corpus: str = "folder"
    split: str = "test"
    speakers: tuple[str, ...] = ()
    limit: int = 0
    protocol: str | None = None
    include_trained: bool = False

    def takes(self, split: str, speaker: str) -> bool:
        """Return whether a clip of this split and speaker is selected."""
        return self.split in (ALL, split) and (not self.speakers or speaker in self.speakers)


class Item(NamedTuple):
    """What is known of a clip.

    Attributes:
        id: Its name.
        clip: Name of the clip that it is, or is a part of.
        speaker: Who speaks.
        transcript: What is said, if that is known.
        split: As the data have it.
        trained: Whether the pack was trained on it, or chosen by it where test clips are asked for.
    """

    id: str
    clip: str
    speaker: str
    transcript: str | None
    split: str
    trained: bool = False


@runtime_checkable
class Material(Protocol):
    """Clips with reference audio that can be reconstructed.

    Attributes:
        items: The clips.
    """

    items: list[Item]

    def keep(self, items: list[Item]) -> None:
        """Keep only these, which are among the clips, in their order."""
        ...

    def fingerprint(self, index: int) -> str:
        """Return the fingerprint of a clip's audio; empty if there is none."""
        ...

    def true(self, index: int, sample_rate: int) -> Wave:
        """Read the reference audio of a clip."""
        ...

    def speak(self, index: int, pipeline: Pipeline) -> Wave:
        """Reconstruct a clip from its frames alone, at the pipeline's sample rate."""
        ...


class Prepared:
    """Clips of a prepared folder, spoken from the faces found then."""

    def __init__(self, source: Source) -> None:
        self.folder = source.data
        self.entries: list[Entry] = read_index(source.data)
        self.items = [
            Item(
                str(entry.meta["id"]),
                clip_of(entry.meta),
                str(entry.meta["speaker"]),
                _text(entry.meta.get("transcript")),
                str(entry.meta["split"]),
            )
            for entry in self.entries
        ]

    def keep(self, items: list[Item]) -> None:
        """Keep only these clips."""
        known = {str(entry.meta["id"]): entry for entry in self.entries}
        self.items, self.entries = items, [known[item.id] for item in items]

    def fingerprint(self, index: int) -> str:
        """Return the fingerprint that was prepared; of a folder of an older version, compute it."""
        entry = self.entries[index]
        if FINGERPRINT in entry.meta:
            return str(entry.meta[FINGERPRINT])
        return _fingerprint(lambda: read_wave(self.folder, entry), int(str(entry.meta["sample_rate"])))

    def true(self, index: int, sample_rate: int) -> Wave:
        """Read the reference audio of a clip."""
        entry = self.entries[index]
        wave = read_wave(self.folder, entry)
        return resample(wave, int(str(entry.meta["sample_rate"])), sample_rate)

    def speak(self, index: int, pipeline: Pipeline) -> Wave:
        """Reconstruct a clip from its frames alone."""
        entry, video = self.entries[index], pipeline.model.config.video
        if entry.meta["fps"] != video.fps:
            raise DataError(f"prepared at {entry.meta['fps']} frames a second, the pack takes {video.fps}")
        return pipeline.speak_crops(read_crops(self.folder, entry, video.channels)).wave


class Videos:
    """Clips of a corpus or of a plain folder, spoken from the whole video as a user would."""

    def __init__(self, source: Source) -> None:
        self.clips: list[Clip] = list(corpora.find_reader(source.corpus)(source.data))
        if any(not clip.excerpt.whole for clip in self.clips):
            raise DataError(
                f"the clips of {source.data} are parts of videos, which are not spoken one by one",
                f"prepare them first: lipsound2 prepare {source.corpus} {source.data} -o prepared/",
            )
        self.items = [Item(clip.id, clip.id, clip.speaker, clip.transcript, clip.split) for clip in self.clips]

    def keep(self, items: list[Item]) -> None:
        """Keep only these clips."""
        known = {clip.id: clip for clip in self.clips}
        self.items, self.clips = items, [known[item.id] for item in items]

    def fingerprint(self, index: int) -> str:
        """Return the fingerprint of a video's audio."""
        return _fingerprint(lambda: self.true(index, FINGERPRINT_RATE), FINGERPRINT_RATE)

    def true(self, index: int, sample_rate: int) -> Wave:
        """Read the reference audio of a clip."""
        sound = self.clips[index].audio or self.clips[index].video
        with _unnamed(sound):
            wave = media.read_audio(sound, sample_rate)
        if wave is None:
            raise MediaError("the video has no audio")
        return wave

    def speak(self, index: int, pipeline: Pipeline) -> Wave:
        """Reconstruct a clip from its frames alone."""
        video = self.clips[index].video
        with _unnamed(video):
            return pipeline.speak(video).wave


@contextmanager
def _unnamed(video: Path) -> Iterator[None]:
    """Leave a video's name out of errors, so that the same reason reads the same for every clip."""
    try:
        yield
    except LipSoundError as error:
        raise type(error)(error.message.replace(str(video), "the video"), error.hint) from error


def read_material(source: Source) -> Material:
    """Find all clips of a source, of whatever split."""
    return Prepared(source) if exists(source.data / INDEX_NAME) else Videos(source)


def _fingerprint(read: Callable[[], Wave], sample_rate: int) -> str:
    try:
        return fingerprint(read(), sample_rate)
    except LipSoundError:  # it is reported where the clip is evaluated
        return ""


def _text(value: object) -> str | None:
    return str(value) if value else None
