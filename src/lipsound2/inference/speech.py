"""What was spoken in a video -> files that show it, and the facts that `--json` and the JSON file tell of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from lipsound2 import media
from lipsound2.config import AudioConfig
from lipsound2.errors import ConfigError, StorageError
from lipsound2.inference import picture
from lipsound2.inference.stretches import Reader, Stretch, retimed
from lipsound2.inference.windows import Window
from lipsound2.recognizer.base import Recognizer
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.text.alphabet import Transcript, Word
from lipsound2.text.language import long_code
from lipsound2.text.subtitles import WRITERS, Cue, lone_cues, to_json, to_vtt

FORMATS = ("wav", "mp4", "png")
"""What `Speech.save` can write: audio, the video with the new audio, a figure of mel and alignment.

Speech that was read can also be written as any of `subtitles.WRITERS`.
"""

LONG_GAP = 1.0
"""Seconds without a face that are worth a warning."""
MOST_LISTED = 8
"""Stretches of time that a warning lists."""


@dataclass(frozen=True)
class Speech:
    """Speech reconstructed from a video.

    Attributes:
        source: The video.
        wave: Samples in [-1, 1], exactly as long as the video.
        mel: Log-mel; silence where no face was seen.
        before: The same before the postnet.
        windows: The model's output window by window, with `start` in frames of the video.
        gaps: Stretches (from, to) in seconds without a face.
        audio: Settings of mel and wave.
        fps: Video frames a second.
        transcript: Its words, once it was read.
        faces: Face tracks of the video.
        notes: Warnings, a line each.
        pictures: What became of the video's frames.
        excerpt: What was used of the video; all times are counted from its start.
        familiarity: How well the pack knows the face, in 0..1; None where the pack cannot tell. Of several tracks
            the lowest counts.
        stretches: Where a face is seen without a cut, in order of time.
        pack: Name and version of the pack.
    """

    source: Path
    wave: Float32[np.ndarray, " samples"]
    mel: Float32[np.ndarray, "mels frames"]
    before: Float32[np.ndarray, "mels frames"]
    windows: list[Window]
    gaps: list[tuple[float, float]]
    audio: AudioConfig
    fps: int
    transcript: Transcript | None = None
    faces: int = 1
    notes: tuple[str, ...] = ()
    pictures: media.PictureAccount = field(default_factory=media.PictureAccount)
    excerpt: media.Excerpt = media.WHOLE
    familiarity: float | None = None
    stretches: tuple[Stretch, ...] = ()
    pack: str = ""

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.audio.sample_rate

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.wave) / self.sample_rate

    @property
    def alignments(self) -> list[tuple[int, Float32[np.ndarray, "steps time"]]]:
        """First video frame of each window, and its attention: of each decoder step over the window's frames.

        None of a pack whose decoder has no attention.
        """
        return [
            (window.start, window.alignment.cpu().numpy()) for window in self.windows if window.alignment is not None
        ]

    @property
    def origin(self) -> str:
        """What the files say of how they were made."""
        return f"reconstructed from lips by LipSound2{f' ({self.pack})' if self.pack else ''}, not a recording"

    def read(self, recognizer: Recognizer) -> "Speech":
        """Return the same speech with its words; each stretch is read on its own."""
        reader = Reader(recognizer)
        for stretch in self.stretches or (Stretch(0.0, self.seconds),):
            start, stop = (round(time * self.sample_rate) for time in stretch[:2])
            reader(stretch, self.wave[start:stop], self.sample_rate)
        return replace(self, transcript=reader.take())

    def on_the_files_clock(self) -> "Speech":
        """Return the same speech with its words, stretches and gaps at their times in the file it is an excerpt of."""
        moved = partial(self.excerpt.file_time, rate=self.pictures.rate)
        stretches = tuple(each._replace(start=moved(each.start), stop=moved(each.stop)) for each in self.stretches)
        transcript = retimed(self.transcript, moved) if self.transcript else None
        gaps = [(moved(start), moved(stop)) for start, stop in self.gaps]
        return replace(self, stretches=stretches, transcript=transcript, gaps=gaps)

    def save(
        self, folder: Path | str, name: str | None = None, formats: tuple[str, ...] = FORMATS, force: bool = False
    ) -> list[Path]:
        """Write the speech as files `folder/name.FORMAT`.

        Args:
            folder: Made if missing.
            name: Without suffix; by default the video's.
            formats: Some of `FORMATS` and, if it was read, of `subtitles.WRITERS`.
            force: Whether to overwrite; the video itself is never overwritten.

        Returns:
            The files.

        Raises:
            StorageError: A file exists or cannot be written.
        """
        paths = {suffix: Path(folder) / f"{name or self.source.stem}.{suffix}" for suffix in formats}
        check_targets(list(paths.values()), self.source, force)
        for suffix, path in paths.items():
            match suffix:
                case "wav":
                    media.write_wav(path, self.wave, self.sample_rate, self.origin)
                case "mp4":
                    captions = [media.Caption(cue.start, cue.end, cue.text) for cue in self._cues()]
                    media.write_video(
                        self.source, self.wave, self.sample_rate, path, captions, self.excerpt, self._tags()
                    )
                case "png":
                    with atomic_path(path) as temporary:
                        self.picture().save(temporary, format="PNG")
                case _ if suffix in WRITERS:
                    if self.transcript is None:
                        raise ConfigError(f"{suffix!r} needs words, and this speech was not read", "call read() first")
                    write_text(path, self._written(self.transcript, suffix))
                case _:
                    raise ConfigError(f"unknown format {suffix!r}", f"one of {', '.join(FORMATS)}")
        return list(paths.values())

    def picture(self) -> Image.Image:
        """Draw the mel, its words if it was read, the faces and the attention."""
        words = self.transcript.words if self.transcript else ()
        title = f"{self.source.name} - {self.origin}"
        scene = picture.Scene(title, tuple(words), self.stretches, tuple(self.gaps))
        return picture.draw(self.mel, self.alignments, self.audio, self.fps, scene)

    def _written(self, transcript: Transcript, suffix: str) -> str:
        match suffix:
            case "json":
                return to_json(transcript, facts(self))
            case "vtt":
                return to_vtt(transcript, remarks(self), self.origin)
        return WRITERS[suffix](transcript)

    def _cues(self) -> list[Cue]:
        return lone_cues(self.transcript) if self.transcript else []

    def _tags(self) -> media.Tags:
        language = long_code(self.transcript.language if self.transcript else "")
        return media.Tags(self.origin, "reconstructed from lips", "read from lips", language)


def check_targets(targets: list[Path], source: Path, force: bool) -> None:
    """Refuse to overwrite: the source never, other files only with `force`.

    Raises:
        StorageError: A target exists.
    """
    for target in targets:
        if target.exists() and target.samefile(source):
            raise StorageError(f"{target} is the video itself", "choose another folder with -o")
        if target.exists() and not force:
            raise StorageError(f"{target} exists", "overwrite it with --force or choose another folder with -o")


def facts(speech: Speech) -> dict[str, Any]:
    """Return what is known of a speech, as plain data."""
    return {
        "source": str(speech.source),
        "origin": speech.origin,
        "seconds": round(speech.seconds, 3),
        "faces": speech.faces,
        "stretches": [
            {"face": each.face, "start": round(each.start, 3), "stop": round(each.stop, 3)} for each in speech.stretches
        ],
        "gaps": [[round(start, 3), round(stop, 3)] for start, stop in speech.gaps],
        "notes": remarks(speech),
        "pictures": asdict(speech.pictures),
        "familiarity": speech.familiarity,
        **({"excerpt": speech.excerpt.settings()} if speech.excerpt.settings() else {}),
        **(words(speech.transcript) if speech.transcript else {}),
    }


def words(transcript: Transcript) -> dict[str, Any]:
    """Return the text of a transcript, how sure the recogniser is in the mean, and why there may be no more."""
    confidence = round(_mean(transcript.words), 4) if transcript.words else None
    return {"text": transcript.text, "confidence": confidence, "note": transcript.note}


def remarks(speech: Speech) -> list[str]:
    """List what a user should know of a speech, a line each."""
    lines = list(speech.notes)
    long = [(start, stop) for start, stop in speech.gaps if stop - start >= LONG_GAP]
    if long:
        lines.append(f"no face at {_stretches(long)}; silence there")
    return lines + (doubts(speech.transcript) if speech.transcript else [])


def doubts(transcript: Transcript) -> list[str]:
    """Return a line if the words of some stretches are so uncertain that they may be invented."""
    groups = [list(group) for _, group in groupby(transcript.words, lambda word: word.stretch)]
    doubtful = [group for group in groups if _mean(group) < transcript.doubtful]
    if not doubtful:
        return []
    where = f" at {_stretches([(group[0].start, group[-1].end) for group in doubtful])}" if len(groups) > 1 else ""
    sure = _mean([word for group in doubtful for word in group])
    return [
        f"the words{where} are doubtful, {sure:.0%} certain in the mean where {transcript.doubtful:.0%} or more is "
        "usual; they may be invented"
    ]


def _stretches(stretches: Sequence[tuple[float, float]]) -> str:
    listed = ", ".join(f"{start:.1f}-{stop:.1f} s" for start, stop in stretches[:MOST_LISTED])
    return listed + (f" and {len(stretches) - MOST_LISTED} more" if len(stretches) > MOST_LISTED else "")


def _mean(words: Sequence[Word]) -> float:
    return sum(word.confidence for word in words) / len(words)
