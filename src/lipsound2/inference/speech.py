"""What was spoken in a video -> files that show it, and the facts that `--json` and the JSON file tell of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from lipsound2 import media
from lipsound2.config import AudioConfig
from lipsound2.errors import ConfigError, StorageError
from lipsound2.inference import picture
from lipsound2.inference.windows import Window
from lipsound2.recognizer.base import Recognizer, transcribe_wave
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.text.alphabet import Transcript
from lipsound2.text.subtitles import WRITERS, Cue, cues, to_json, to_vtt

FORMATS = ("wav", "mp4", "png")
"""What `Speech.save` can write: audio, the video with the new audio, a figure of mel and alignment.

Speech that was read can also be written as any of `subtitles.WRITERS`.
"""

LONG_GAP = 1.0
"""Seconds without a face that are worth a warning."""
MEASURES = ("pictures", "familiarity")
"""Attributes of a speech that are told as they are."""


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
        video_track: The video track that was asked for, from 1.
        familiarity: How well the pack knows the face, in 0..1; None where the pack cannot tell. Of several tracks
            the lowest counts.
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
    video_track: int | None = None
    familiarity: float | None = None

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.audio.sample_rate

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.wave) / self.sample_rate

    @property
    def alignment(self) -> Float32[np.ndarray, "steps time"] | None:
        """Attention of each decoder step over the video's frames; of overlapping windows the later counts.

        None if the pack's decoder has no attention.
        """
        alignments = self._alignments()
        if not alignments:
            return None
        steps, times = alignments[0][1].shape
        per_frame = steps / times
        total = round(self.seconds * self.fps)
        joined = np.zeros((round(total * per_frame), total), np.float32)
        for start, weights in alignments:
            first = round(start * per_frame)
            joined[first : first + len(weights)] = 0
            joined[first : first + len(weights), start : start + weights.shape[1]] = weights
        return joined

    def _alignments(self) -> list[tuple[int, Float32[np.ndarray, "steps time"]]]:
        return [
            (window.start, window.alignment.cpu().numpy()) for window in self.windows if window.alignment is not None
        ]

    def read(self, recognizer: Recognizer) -> "Speech":
        """Return the same speech with its words."""
        return replace(self, transcript=transcribe_wave(recognizer, self.wave, self.sample_rate))

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
                    media.write_wav(path, self.wave, self.sample_rate)
                case "mp4":
                    captions = [media.Caption(cue.start, cue.end, cue.text) for cue in self._cues()]
                    media.write_video(self.source, self.wave, self.sample_rate, path, captions, self.video_track)
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
        """Draw the mel, its words if it was read, and the attention."""
        words = self.transcript.words if self.transcript else ()
        return picture.draw(self.mel, self._alignments(), self.audio, self.fps, self.source.name, words)

    def _written(self, transcript: Transcript, suffix: str) -> str:
        match suffix:
            case "json":
                return to_json(transcript, facts(self))
            case "vtt":
                return to_vtt(transcript, self.notes)
        return WRITERS[suffix](transcript)

    def _cues(self) -> list[Cue]:
        return cues(self.transcript) if self.transcript else []


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
    plain = asdict(replace(speech, windows=[]))
    return {
        "source": str(speech.source),
        "seconds": round(speech.seconds, 3),
        "faces": speech.faces,
        "gaps": [[round(start, 3), round(stop, 3)] for start, stop in speech.gaps],
        "notes": remarks(speech),
        **{name: plain[name] for name in MEASURES if name in plain},
        **(words(speech.transcript) if speech.transcript else {}),
    }


def words(transcript: Transcript) -> dict[str, Any]:
    """Return the text of a transcript, how sure the recogniser is in the mean, and why there may be no more."""
    return {"text": transcript.text, "confidence": _mean(transcript), "note": transcript.note}


def remarks(speech: Speech) -> list[str]:
    """List what a user should know of a speech, a line each."""
    lines = list(speech.notes)
    long = [(start, stop) for start, stop in speech.gaps if stop - start >= LONG_GAP]
    if long:
        lines.append(f"no face at {_stretches(long)}; silence there")
    return lines


def _stretches(stretches: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{start:.1f}-{stop:.1f} s" for start, stop in stretches)


def _mean(transcript: Transcript) -> float | None:
    if not transcript.words:
        return None
    return round(sum(word.confidence for word in transcript.words) / len(transcript.words), 4)
