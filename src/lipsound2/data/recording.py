"""A clip, however long -> its samples, while it is decoded: stretches with one face, long ones split at pauses."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lipsound2 import faces, media
from lipsound2.corpora.clip import Clip
from lipsound2.data.account import Account, NothingKeptError
from lipsound2.data.fingerprint import FINGERPRINT, fingerprint
from lipsound2.data.following import NO_FACE, SEVERAL, Follower
from lipsound2.data.pauses import quietest
from lipsound2.data.sample import Sample, SampleConfig, Wave, encode_crops, encode_wave
from lipsound2.runtime.names import sample_key

MAX_LOST = 0.1
"""Share of missing or frozen frames above which a clip is refused."""
MAX_DRIFT = 0.001
"""Share of its length by which the audio of a long recording may end earlier or later than its video."""
NO_SOUND = "no sound"
TOO_SHORT = "too short"


class Part(NamedTuple):
    """A stretch of a clip, encoded: its first frame, its length in frames, its files' contents and its fingerprint."""

    start: int
    frames: int
    files: dict[str, bytes]
    audio: str


def make_samples(clip: Clip, detector: faces.Detector, config: SampleConfig) -> Iterator[Sample]:
    """Yield the samples of a clip: one for each stretch with a face, long ones split at pauses.

    A clip of one sample gives it its name; of several, they are called `CLIP#01` and so on and have no transcript,
    since it is not known which words are in which. The last one carries the account of the whole clip.

    Raises:
        NothingKeptError: There is no sample; the message says why.
        LipSoundError: The clip cannot be used.
    """
    recording = Recording(clip, detector, config)
    number = 0
    held: Part | None = None
    for part in recording.parts():
        if held is not None:
            number += 1
            yield _sample(clip, config, held, number, {})
        held = part
    if held is None:
        raise recording.nothing()
    account = recording.account
    account.untold = int(number > 0 and clip.transcript is not None)
    last: dict[str, object] = {"account": account.facts()} if number or account.lost else {}
    if notes := recording.frames.account.notes():
        last["notes"] = list(notes)
    yield _sample(clip, config, held, number + 1 if number else 0, last)


def _sample(clip: Clip, config: SampleConfig, part: Part, number: int, more: dict[str, object]) -> Sample:
    name = f"{clip.id}#{number:02d}" if number else clip.id
    meta: dict[str, object] = {
        "id": name,
        "speaker": clip.speaker,
        "split": clip.split,
        "transcript": None if number else clip.transcript,
        "frames": part.frames,
        "first_frame": part.start,
        "fps": config.fps,
        "sample_rate": config.sample_rate,
        FINGERPRINT: part.audio,
    }
    meta |= {"clip": clip.id, "start": round(part.start / config.fps, 3)} if number else {}
    meta |= more
    files = {"json": json.dumps(meta, ensure_ascii=False, sort_keys=True).encode(), **part.files}
    return Sample(sample_key(name), files, meta)


@dataclass
class Stretch:
    """Consecutive crops of one face that are not part of a sample yet, and the first one's frame."""

    start: int
    crops: list[faces.Crop] = field(default_factory=list)


class Recording:
    """A clip that is cut into parts while it is decoded.

    Attributes:
        frames: The frames of the video.
        account: What was kept and lost, whole once all parts were taken.
    """

    def __init__(self, clip: Clip, detector: faces.Detector, config: SampleConfig) -> None:
        self.clip = clip
        self.config = config
        self.account = Account()
        sound = clip.audio or clip.video
        audio = media.stream_audio(sound, config.sample_rate, clip.excerpt)
        if audio is None:
            raise self._refused(f"{sound} has no audio", NO_SOUND, media.probe(clip.video).duration or 0.0)
        self.audio = audio
        self.frames = media.stream_frames(clip.video, config.fps, clip.excerpt, threads=1)
        self._follower = Follower(detector, config.detect_every, config.several, clip.face)
        self._longest = round(config.longest * config.fps)
        self._shortest = round(config.min_seconds * config.fps)
        self._stretches: dict[int, Stretch] = {}

    def parts(self) -> Iterator[Part]:
        """Yield the stretches of the clip that are kept, each as soon as its end is known.

        Raises:
            LipSoundError: The clip cannot be used.
        """
        for crop in self._follower(self.frames):
            stretch = self._stretches.get(crop.trail)
            if stretch and (crop.pixels is None or crop.frame != stretch.start + len(stretch.crops)):
                yield from self._part(self._stretches.pop(crop.trail))
                stretch = None
            if crop.pixels is not None:
                stretch = stretch or self._stretches.setdefault(crop.trail, Stretch(crop.frame))
                stretch.crops.append(crop.pixels)
                # Enough is left over for what follows the cut to be no shorter than it may be.
                if len(stretch.crops) >= self._longest + self._shortest:
                    yield from self._split(stretch)
        self._settle()

    def nothing(self) -> NothingKeptError:
        """Return why there is no part."""
        lost = self.account.lost
        if lost.get(NO_FACE, 0.0) >= self.account.found - 1e-6:
            hint = "the face should look at the camera and fill a tenth of the frame"
            return NothingKeptError("no face found in the whole video", hint, self.account)
        if TOO_SHORT in lost and SEVERAL not in lost:
            return NothingKeptError(f"the face is visible for only {lost[TOO_SHORT]:.2f} s", None, self.account)
        reason = max(lost, key=lambda name: lost[name])
        other = "--several largest takes the largest face" if SEVERAL in lost else None
        return NothingKeptError(f"{reason} for {lost[reason]:.2f} of {self.account.found:.2f} s", other, self.account)

    def _split(self, stretch: Stretch) -> Iterator[Part]:
        """Cut a stretch that has become too long at its quietest moment, and keep the rest."""
        frames = len(stretch.crops)
        wave = self._wave(stretch.start, stretch.start + frames)
        cut = quietest(wave, frames, max(self._shortest, self._longest // 2), self._longest)
        yield from self._part(Stretch(stretch.start, stretch.crops[:cut]))
        del stretch.crops[:cut]
        stretch.start += cut

    def _part(self, stretch: Stretch) -> Iterator[Part]:
        """Encode a stretch, as far as there is audio, unless it is too short."""
        start, frames = stretch.start, len(stretch.crops)
        wave = self._wave(start, start + frames)
        ends = self.audio.length if self.audio.ended else self._sample(start + frames)
        heard = ends * self.config.fps // self.config.sample_rate - start
        if heard < frames - self.config.max_mismatch * self.config.fps:
            self._lose(NO_SOUND, frames - max(0, heard))
            frames = max(0, heard)
        if frames < self._shortest:
            self._lose(TOO_SHORT, frames)
            return
        self.account.samples += 1
        self.account.kept += frames / self.config.fps
        wave = wave[: self._sample(start + frames) - self._sample(start)]
        files = {
            "mp4": encode_crops(np.stack(stretch.crops[:frames]), self.config.fps, self.config.quality),
            "flac": encode_wave(wave, self.config.sample_rate),
        }
        yield Part(start, frames, files, fingerprint(wave, self.config.sample_rate))

    def _settle(self) -> None:
        """Complete the account, and check that video and audio are of the same length and most frames were there."""
        self.audio.skip()
        config, pictures = self.config, self.frames.account
        seconds = self._follower.frames / config.fps
        self.account.found = seconds
        for reason, frames in self._follower.lost.items():
            self._lose(reason, frames)
        if pictures.lost_share > MAX_LOST:
            share = f"{self.clip.video}: {pictures.lost_share:.0%} of the frames are missing"
            raise self._refused(
                f"{share} ({'; '.join(pictures.notes())})",
                "frames are missing",
                seconds,
                f"copy or record the file again; at most {MAX_LOST:.0%} may be",
            )
        sound = self.audio.length / config.sample_rate
        if abs(sound - seconds) > max(config.max_mismatch, MAX_DRIFT * seconds if config.max_mismatch > 0 else 0):
            raise self._refused(
                f"video ({seconds:.2f} s) and audio ({sound:.2f} s) differ by more than {config.max_mismatch:g} s",
                "video and audio differ in length",
                seconds,
            )

    def _refused(self, message: str, reason: str, seconds: float, hint: str | None = None) -> NothingKeptError:
        return NothingKeptError(message, hint, Account(found=seconds, lost={reason: seconds}))

    def _lose(self, reason: str, frames: int) -> None:
        if frames:
            self.account.lose(reason, frames / self.config.fps)

    def _wave(self, start: int, stop: int) -> Wave:
        needed = min([start, *(each.start for each in self._stretches.values())])
        self.audio.forget(self._sample(needed))
        return self.audio.window(self._sample(start), self._sample(stop))

    def _sample(self, frame: int) -> int:
        """Return the first audio sample of a frame."""
        return frame * self.config.sample_rate // self.config.fps
