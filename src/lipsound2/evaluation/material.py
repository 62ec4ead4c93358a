"""A prepared folder, or a folder of videos -> clips with their reference audio and a way to reconstruct them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from lipsound2 import corpora, media
from lipsound2.audio import resample
from lipsound2.corpora import Clip
from lipsound2.corpora.clip import spread
from lipsound2.corpora.protocols import find_protocol
from lipsound2.data.shards import INDEX_NAME, Entry, clip_of, read_crops, read_index, read_wave
from lipsound2.errors import DataError, LipSoundError, MediaError
from lipsound2.evaluation.sound import Wave
from lipsound2.inference.pipeline import Pipeline
from lipsound2.runtime.remote import exists

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
    """

    data: Path
    corpus: str = "folder"
    split: str = "test"
    speakers: tuple[str, ...] = ()
    limit: int = 0
    protocol: str | None = None

    def takes(self, split: str, speaker: str) -> bool:
        """Return whether a clip of this split and speaker is selected."""
        return self.split in (ALL, split) and (not self.speakers or speaker in self.speakers)


class Item(NamedTuple):
    """What is known of a clip."""

    id: str
    speaker: str
    transcript: str | None


@runtime_checkable
class Material(Protocol):
    """Clips with reference audio that can be reconstructed.

    Attributes:
        items: The clips.
    """

    items: list[Item]

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
        found = [e for e in read_index(source.data) if source.takes(str(e.meta["split"]), str(e.meta["speaker"]))]
        if source.protocol:
            found = _of_protocol(found, source.protocol)
        self.entries: list[Entry] = spread(found, source.limit)
        self.items = [
            Item(str(entry.meta["id"]), str(entry.meta["speaker"]), _text(entry.meta.get("transcript")))
            for entry in self.entries
        ]

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
        clips = corpora.find_reader(source.corpus)(source.data)
        if source.protocol:
            clips = find_protocol(source.protocol).assign(clips)
        found = [clip for clip in clips if source.takes(clip.split, clip.speaker)]
        self.clips: list[Clip] = spread(found, source.limit)
        self.items = [Item(clip.id, clip.speaker, clip.transcript) for clip in self.clips]

    def true(self, index: int, sample_rate: int) -> Wave:
        """Read the reference audio of a clip."""
        video = self.clips[index].video
        with _unnamed(video):
            wave = media.read_audio(video, sample_rate)
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


def load_material(source: Source) -> Material:
    """Find the clips, if there are any."""
    return Prepared(source) if exists(source.data / INDEX_NAME) else Videos(source)


def open_material(source: Source) -> Material:
    """Find the clips.

    Raises:
        DataError: There are none.
    """
    material = load_material(source)
    if not material.items:
        speakers = f" of {', '.join(source.speakers)}" if source.speakers else ""
        raise DataError(
            f"{source.data} holds no clip of split {source.split!r}{speakers}", f"take all clips with --split {ALL}"
        )
    return material


def _of_protocol(entries: list[Entry], name: str) -> list[Entry]:
    """Keep the clips of a protocol, and see that they were prepared in its splits: none tested was trained on."""
    protocol, kept = find_protocol(name), []
    for entry in entries:
        clip_id, own = clip_of(entry.meta), str(entry.meta["split"])
        wanted = protocol.split(clip_id, str(entry.meta["speaker"]), own)
        if wanted and wanted != own:
            raise DataError(
                f"{clip_id} was prepared as {own}, the protocol {name} makes it {wanted}",
                f"prepare and train with --protocol {name}",
            )
        kept += [entry] if wanted else []
    return kept


def _text(value: object) -> str | None:
    return str(value) if value else None
