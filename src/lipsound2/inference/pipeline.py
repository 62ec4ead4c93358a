"""A video -> a `Speech`: faces, mel, waveform, and the files that show them.

>>> import lipsound2
>>> speech = lipsound2.load("grid-s1").speak("clip.mp4")  # doctest: +SKIP
>>> speech.save("out")  # doctest: +SKIP
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from lipsound2 import faces, media
from lipsound2.config import AudioConfig
from lipsound2.errors import ConfigError, MediaError, StorageError
from lipsound2.inference import picture
from lipsound2.inference.facts import facts
from lipsound2.inference.windows import Generation, Window, generate
from lipsound2.model import LipSound2
from lipsound2.model.preprocess import Crops, view
from lipsound2.packs import find_pack
from lipsound2.packs.familiarity import SHORTEST, Familiarity, load_familiarity, observe
from lipsound2.packs.pack import DEFAULT_PACK
from lipsound2.recognizer.base import Recognizer, transcribe_wave
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.runtime.devices import find_device
from lipsound2.text.alphabet import Transcript
from lipsound2.text.subtitles import WRITERS, Cue, cues, to_json, to_vtt
from lipsound2.vocoder import Vocoder
from lipsound2.vocoder.choose import choose_vocoder

FORMATS = ("wav", "mp4", "png")
"""What `Speech.save` can write: audio, the video with the new audio, a figure of mel and alignment.

Speech that was read can also be written as any of `subtitles.WRITERS`.
"""

Progress = Callable[[str, float], None]
"""Told the name of the stage under way and, in 0..1, how much of it is done."""


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


class Spoken(NamedTuple):
    """Speech reconstructed from face crops; fields as in `Speech`."""

    wave: Float32[np.ndarray, " samples"]
    mel: Float32[np.ndarray, "mels frames"]
    windows: list[Window]


class Pipeline:
    """Everything needed for inference, loaded once for any number of videos.

    Args:
        model: In evaluation mode, on the device it shall run on.
        vocoder: Made for the same mels.
        detector: Finds faces; MTCNN if none is given.
        familiarity: Measures how familiar a face is to the model.
        name: Of the pack.
        knows: Speakers and vocabulary of the training data, in a few words.

    Raises:
        ConfigError: Model and vocoder disagree on the mel.
    """

    def __init__(
        self,
        model: LipSound2,
        vocoder: Vocoder,
        detector: faces.Detector | None = None,
        familiarity: Familiarity | None = None,
        name: str = "",
        knows: str = "",
    ) -> None:
        if vocoder.audio != model.config.audio:
            raise ConfigError(
                f"the model makes mels of {model.config.audio}, the vocoder {vocoder.name} wants {vocoder.audio}",
                "choose a vocoder that was made for this model, or --vocoder griffin-lim",
            )
        self.model = model
        self.vocoder = vocoder
        self.detector = detector or faces.MtcnnDetector()
        self.familiarity = familiarity
        self.name = name
        self.knows = knows

    def speak(
        self,
        source: Path | str,
        face: str = "largest",
        progress: Progress | None = None,
        video_track: int | None = None,
    ) -> Speech:
        """Reconstruct the speech of a silent video.

        Args:
            source: Any video file; its own audio is not used.
            face: `largest`, `left`, `right` or the number of a face track.
            progress: Told how far the work is.
            video_track: Number of the file's video track, from 1; by default the file's own choice, else the
                largest that moves.

        Raises:
            MediaError: The video cannot be read.
            FaceError: There is no such face in it.
        """
        if face == "all":
            raise ConfigError("speak gives one voice", "use speak_each for all faces")
        return next(self.speak_each(source, face, progress, video_track))

    def speak_each(
        self,
        source: Path | str,
        face: str = "all",
        progress: Progress | None = None,
        video_track: int | None = None,
    ) -> Iterator[Speech]:
        """Yield one `Speech` for each voice that `face` asks for, each as long as the whole video."""
        source = Path(source)
        tracking, pictures = self._track(source, progress, video_track)
        for tracks in faces.select(tracking, face):
            frames = media.stream_frames(source, self.model.config.video.fps, video_track)
            speech = self._speak(source, frames, tracking.frames, tracks, progress or _silent)
            notes = (*pictures.notes(), *speech.notes)
            found = len(tracking.tracks)
            yield replace(speech, faces=found, pictures=pictures, notes=notes, video_track=video_track)

    def speak_crops(self, crops: Crops) -> Spoken:
        """Reconstruct speech from face crops that were aligned before, as `lipsound2 prepare` does."""
        video = self.model.config.video
        device = next(self.model.parameters()).device
        views = (view(crop[None], video)[:, 0].to(device) for crop in crops)
        spoken = generate(self.model, views, len(crops))
        return Spoken(self.vocode(spoken.mel), spoken.mel.cpu().numpy(), spoken.windows)

    @torch.inference_mode()
    def vocode(self, mel: Float[Tensor, "mels frames"]) -> Float32[np.ndarray, " samples"]:
        """Turn a mel on the model's device into a waveform."""
        return self.vocoder(mel).clamp(-1, 1).cpu().numpy()

    def track(self, source: Path, progress: Progress | None = None, video_track: int | None = None) -> faces.Tracking:
        """Follow all faces of a video."""
        return self._track(source, progress, video_track)[0]

    def _track(
        self, source: Path, progress: Progress | None, video_track: int | None
    ) -> tuple[faces.Tracking, media.PictureAccount]:
        fps = self.model.config.video.fps
        report = progress or _silent
        total = (media.probe(source, video_track).duration or 0) * fps

        stream = media.stream_frames(source, fps, video_track)

        def frames() -> Iterator[media.Frame]:
            for frame in stream:
                yield frame
                report("finding faces", min(1.0, (frame.number + 1) / total) if total else 0.0)

        tracking = faces.find_tracks(frames(), self.detector)
        pictures = stream.account
        if pictures.decoded < faces.SHORTEST or tracking.frames < faces.SHORTEST:
            raise MediaError(
                f"{source} is too short: {pictures.decoded} frames, {faces.SHORTEST} or more were expected",
                "give a video, not a photo",
            )
        return tracking, pictures

    def _speak(
        self,
        source: Path,
        stream: Iterator[media.Frame],
        frames: int,
        tracks: list[faces.FaceTrack],
        report: Progress,
    ) -> Speech:
        config = self.model.config
        fps, audio = config.video.fps, config.audio
        device = next(self.model.parameters()).device
        mel = torch.full((audio.n_mels, audio.mel_frames(frames, fps)), log(audio.floor))
        before = mel.clone()
        windows: list[Window] = []
        measures: list[float] = []
        for track in tracks:
            views = self._views(stream, track, device, frames, report)
            spoken, measure = self._generate(views, len(track))
            if measure is not None:
                measures.append(measure)
            first = audio.mel_frames(track.start, fps)
            for whole, part in ((mel, spoken.mel), (before, spoken.before)):
                whole[:, first : first + part.shape[1]] = part[:, : whole.shape[1] - first].cpu()
            windows += [window._replace(start=window.start + track.start) for window in spoken.windows]
        report("synthesising audio", 0.0)
        wave = self.vocode(mel.to(device))
        report("synthesising audio", 1.0)
        wave = np.pad(wave, (0, max(0, frames * audio.sample_rate // fps - len(wave))))
        speech = Speech(source, wave, mel.numpy(), before.numpy(), windows, _gaps(tracks, frames, fps), audio, fps)
        return self._judged(speech, min(measures)) if measures else speech

    def _generate(self, views: Iterator[Tensor], frames: int) -> tuple[Generation, float | None]:
        """Run the model, and measure how well it knows the face if it is seen long enough."""
        if self.familiarity is None or frames < SHORTEST:
            return generate(self.model, views, frames), None
        with observe(self.model, self.familiarity.layer) as seen:
            spoken = generate(self.model, views, frames)
        return spoken, self.familiarity(torch.stack(seen).mean(0))

    def _judged(self, speech: Speech, measure: float) -> Speech:
        assert self.familiarity is not None
        note = self.familiarity.note(measure, self.name)
        return replace(speech, familiarity=round(measure, 4), notes=speech.notes + ((note,) if note else ()))

    def _views(
        self,
        stream: Iterator[media.Frame],
        track: faces.FaceTrack,
        device: torch.device,
        frames: int,
        report: Progress,
    ) -> Iterator[Tensor]:
        video = self.model.config.video
        for done, crop in enumerate(faces.crop_faces(stream, track), track.start + 1):
            pixels = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[None] if video.channels == 1 else crop.transpose(2, 0, 1)
            yield view(torch.from_numpy(pixels)[None], video)[:, 0].to(device)
            report("reading lips", done / frames)


def load(
    pack: str | Path = DEFAULT_PACK,
    vocoder: str | None = None,
    device: str | None = None,
    detector: faces.Detector | None = None,
) -> Pipeline:
    """Load a pack, or the best model of a training run, and all that is needed to speak with it.

    Args:
        pack: Name of an installed pack, or the folder of a pack or a run.
        vocoder: As in `choose_vocoder`; by default the pack's own choice.
        device: A torch device; by default the first GPU, else the CPU.
        detector: Finds faces; MTCNN if none is given.

    Raises:
        CheckpointError: There is no such pack, or it was changed.
    """
    found = find_pack(pack)
    model = found.load_model(find_device(device))
    place = next(model.parameters()).device
    chosen = choose_vocoder(vocoder or found.info.vocoder, model.config.audio, found.waveglow, place)
    familiarity = load_familiarity(found.folder, model)
    return Pipeline(model, chosen, detector, familiarity, found.info.name, found.info.knows)


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


def _gaps(tracks: list[faces.FaceTrack], frames: int, fps: int) -> list[tuple[float, float]]:
    """List the stretches without a chosen face, in seconds."""
    edges = [0, *(edge for track in tracks for edge in (track.start, track.stop)), frames]
    return [(a / fps, b / fps) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _silent(stage: str, share: float) -> None:
    """Report nothing."""
