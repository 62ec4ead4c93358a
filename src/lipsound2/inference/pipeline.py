"""A video -> a `Speech`: faces, mel, waveform, and the files that show them.

>>> import lipsound2
>>> speech = lipsound2.load("grid-s1").speak("clip.mp4")  # doctest: +SKIP
>>> speech.save("out")  # doctest: +SKIP
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import log
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lipsound2 import faces, media
from lipsound2.errors import ConfigError, MediaError
from lipsound2.inference.speech import Speech
from lipsound2.inference.windows import Generation, Window, generate
from lipsound2.model import LipSound2
from lipsound2.model.preprocess import Crops, view
from lipsound2.packs import find_pack
from lipsound2.packs.familiarity import SHORTEST, Familiarity, load_familiarity, observe
from lipsound2.packs.pack import DEFAULT_PACK
from lipsound2.runtime.devices import find_device
from lipsound2.vocoder import Vocoder
from lipsound2.vocoder.choose import choose_vocoder

Progress = Callable[[str, float], None]
"""Told the name of the stage under way and, in 0..1, how much of it is done."""


class Spoken(NamedTuple):
    """Speech reconstructed from face crops; fields as in `Speech`."""

    wave: Float32[np.ndarray, " samples"]
    mel: Float32[np.ndarray, "mels frames"]
    windows: list[Window]


class Sighting(NamedTuple):
    """The faces of a video, and what became of its frames."""

    tracking: faces.Tracking
    pictures: media.PictureAccount


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
        sighting: Sighting | None = None,
    ) -> Iterator[Speech]:
        """Yield one `Speech` for each voice that `face` asks for, each as long as the whole video.

        Args:
            source: As in `speak`.
            face: As in `speak`; `all` gives each face track a voice.
            progress: As in `speak`.
            video_track: As in `speak`.
            sighting: The video's faces, if `look` found them before.
        """
        source = Path(source)
        tracking, pictures = sighting or self.look(source, progress, video_track)
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
        return self.look(source, progress, video_track).tracking

    def look(self, source: Path, progress: Progress | None = None, video_track: int | None = None) -> Sighting:
        """Follow all faces of a video, and account for its frames.

        Raises:
            MediaError: It cannot be read, or is too short.
        """
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
        return Sighting(tracking, pictures)

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


def _gaps(tracks: list[faces.FaceTrack], frames: int, fps: int) -> list[tuple[float, float]]:
    """List the stretches without a chosen face, in seconds."""
    edges = [0, *(edge for track in tracks for edge in (track.start, track.stop)), frames]
    return [(a / fps, b / fps) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _silent(stage: str, share: float) -> None:
    """Report nothing."""
