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

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lipsound2 import faces, media
from lipsound2.errors import ConfigError, MediaError
from lipsound2.export.backend import OnnxLips, OnnxWaveGlow, exported_folder
from lipsound2.inference.mix import layers, mixed
from lipsound2.inference.speech import Speech
from lipsound2.inference.stretches import Heard, Stretch
from lipsound2.inference.voices import Voice, choose_voice, nearest_voice
from lipsound2.inference.windows import Generation, Window, generate
from lipsound2.model.lipsound import Lips, LipSound2
from lipsound2.model.preprocess import Crops, View, view, view_of
from lipsound2.packs import find_pack
from lipsound2.packs.familiarity import SHORTEST, Familiarity, load_familiarity, observe
from lipsound2.packs.pack import DEFAULT_PACK
from lipsound2.packs.voices import PackVoices, load_voices
from lipsound2.runtime.devices import find_device
from lipsound2.vocoder import Vocoder
from lipsound2.vocoder.choose import choose_vocoder
from lipsound2.vocoder.synthesis import WaveGlowVocoder

TOGETHER = "together"
"""The choice of faces that lets all of them be heard at once."""
FADE = 80
"""Samples over which a stretch is faded in and out at a cut."""

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
        voices: The pack's own voices, if it has more than one.
        version: Of the pack.

    Attributes:
        voice: The voice that is spoken with, as in `load`; None for that of the training speaker whose face is nearest.

    Raises:
        ConfigError: Model and vocoder disagree on the mel.
    """

    def __init__(
        self,
        model: Lips,
        vocoder: Vocoder,
        detector: faces.Detector | None = None,
        familiarity: Familiarity | None = None,
        name: str = "",
        knows: str = "",
        voices: PackVoices | None = None,
        version: str = "",
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
        self.voices = voices
        self.version = version
        self.voice: Voice | None = None

    def speak_as(self, voice: str | Path) -> None:
        """Choose the voice of what is spoken from now on: a name of `voices`, or a file with a sample of speech."""
        self.voice = choose_voice(voice, self.voices, self.name or "the model", self.model.config.condition_dim)

    def speak(
        self,
        source: Path | str,
        face: str = "largest",
        progress: Progress | None = None,
        excerpt: media.Excerpt = media.WHOLE,
    ) -> Speech:
        """Reconstruct the speech of a silent video.

        Args:
            source: Any video file; its own audio is not used.
            face: `largest`, `left`, `right`, the number of a face track, or `together` for all at once.
            progress: Told how far the work is.
            excerpt: What is used of the file.

        Raises:
            MediaError: The video cannot be read.
            FaceError: There is no such face in it.
        """
        if face == "all":
            raise ConfigError("speak gives one voice", "use speak_each for all faces, or the face 'together'")
        return next(self.speak_each(source, face, progress, excerpt))

    def speak_each(
        self,
        source: Path | str,
        face: str = "all",
        progress: Progress | None = None,
        excerpt: media.Excerpt = media.WHOLE,
        heard: Heard | None = None,
        sighting: Sighting | None = None,
    ) -> Iterator[Speech]:
        """Yield one `Speech` for each voice that `face` asks for, each as long as the whole video.

        Args:
            source: As in `speak`.
            face: As in `speak`; `all` gives each face track a voice.
            progress: As in `speak`.
            excerpt: As in `speak`.
            heard: Told each stretch as soon as it was spoken.
            sighting: The faces of this excerpt, if `look` found them before.
        """
        source = Path(source)
        tracking, pictures = sighting or self.look(source, progress, excerpt)
        named = face == TOGETHER and len(tracking.tracks) > 1

        def spoken(tracks: list[faces.FaceTrack]) -> Speech:
            frames = media.stream_frames(source, self.model.config.video.fps, excerpt)
            speech = self._speak(source, frames, tracking.frames, tracks, named, progress or _silent, heard or _unheard)
            notes = (*pictures.notes(), *speech.notes)
            found = len(tracking.tracks)
            pack = f"{self.name} {self.version}".strip()
            return replace(speech, faces=found, pictures=pictures, notes=notes, excerpt=excerpt, pack=pack)

        if face == TOGETHER:
            faces.select(tracking, "all")
            yield mixed([spoken(tracks) for tracks in layers(tracking.tracks)])
            return
        yield from (spoken(tracks) for tracks in faces.select(tracking, face))

    def speak_crops(self, crops: Crops) -> Spoken:
        """Reconstruct speech from face crops that were aligned before, as `lipsound2 prepare` does."""
        video, device = self.model.config.video, self.model.device
        views = (view(crop[None], video)[:, 0].to(device) for crop in crops)
        spoken = generate(self.model, views, len(crops), self._condition)
        return Spoken(self.vocode(spoken.mel), spoken.mel.cpu().numpy(), spoken.windows)

    @torch.inference_mode()
    def vocode(self, mel: Float[Tensor, "mels frames"]) -> Float32[np.ndarray, " samples"]:
        """Turn a mel on the model's device into a waveform."""
        return self.vocoder(mel).clamp(-1, 1).cpu().numpy()

    def track(
        self, source: Path, progress: Progress | None = None, excerpt: media.Excerpt = media.WHOLE
    ) -> faces.Tracking:
        """Follow all faces of a video."""
        return self.look(source, progress, excerpt).tracking

    def look(self, source: Path, progress: Progress | None = None, excerpt: media.Excerpt = media.WHOLE) -> Sighting:
        """Follow all faces of a video, and account for its frames.

        Raises:
            MediaError: It cannot be read, or is too short.
        """
        fps = self.model.config.video.fps
        report = progress or _silent
        info = media.probe(source, excerpt.track)
        total = (excerpt.seconds(info.duration, info.fps) or 0) * fps

        stream = media.stream_frames(source, fps, excerpt)

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
        named: bool,
        report: Progress,
        heard: Heard,
    ) -> Speech:
        """Speak face tracks that do not overlap, one after the other; each is a stretch, `named` in subtitles."""
        config = self.model.config
        fps, audio, device = config.video.fps, config.audio, self.model.device
        mel = np.full((audio.n_mels, audio.mel_frames(frames, fps)), log(audio.floor), np.float32)
        before = mel.copy()
        wave = np.zeros(frames * audio.sample_rate // fps, np.float32)
        windows: list[Window] = []
        measures: list[float] = []
        stretches: list[Stretch] = []
        for track in tracks:
            portrait: list[faces.Crop] = []
            views = self._views(stream, track, device, frames, report, portrait)
            spoken, measure = self._generate(views, len(track))
            if measure is not None:
                measures.append(measure)
            first = audio.mel_frames(track.start, fps)
            for whole, part in ((mel, spoken.mel), (before, spoken.before)):
                whole[:, first : first + part.shape[1]] = part[:, : whole.shape[1] - first].cpu()
            windows += [window._replace(start=window.start + track.start) for window in spoken.windows]
            report("synthesising audio", track.stop / frames)
            start, stop = (frame * audio.sample_rate // fps for frame in (track.start, track.stop))
            wave[start:stop] = _faded(_fit(self.vocode(spoken.mel), stop - start), start > 0, stop < len(wave))
            speaker = f"Face {track.number}" if named else ""
            stretches.append(Stretch(track.start / fps, track.stop / fps, track.number, speaker, portrait[0]))
            heard(stretches[-1], wave[start:stop], audio.sample_rate)
        gaps = _gaps(tracks, frames, fps)
        speech = Speech(source, wave, mel, before, windows, gaps, audio, fps, stretches=tuple(stretches))
        return self._judged(speech, min(measures)) if measures else speech

    def _generate(self, views: Iterator[Tensor], frames: int) -> tuple[Generation, float | None]:
        """Run the model, and measure how well it knows the face if it is seen long enough."""
        if self.familiarity is None or frames < SHORTEST:
            return generate(self.model, views, frames, self._condition), None
        with observe(self.model, self.familiarity.layer) as seen:
            spoken = generate(self.model, views, frames, self._condition)
        return spoken, self.familiarity(torch.stack(seen).mean(0))

    @property
    def _condition(self) -> Callable[[View], Float[Tensor, " voice_dim"]] | None:
        """How the voice of a face is found, for a model of more than one voice."""
        model = self.model
        if not (isinstance(model, LipSound2) and model.config.condition_dim):
            return None

        def found(video: View) -> Float[Tensor, " voice_dim"]:
            name = self.name or "the model"
            voice = self.voice or nearest_voice(model, video, self.voices, self.familiarity, name)
            return voice.embedding

        return found

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
        portrait: list[faces.Crop],
    ) -> Iterator[Tensor]:
        """Yield what the model sees of each frame; `portrait` is given the crop in the middle."""
        video = self.model.config.video
        for done, crop in enumerate(faces.crop_faces(stream, track), track.start + 1):
            if done - 1 == (track.start + track.stop) // 2:
                portrait.append(crop)
            yield view_of(crop, video)[:, 0].to(device)
            report("reading lips", done / frames)


def load(
    pack: str | Path = DEFAULT_PACK,
    vocoder: str | None = None,
    device: str | None = None,
    detector: faces.Detector | None = None,
    voice: str | Path | None = None,
    backend: str = "torch",
) -> Pipeline:
    """Load a pack, or the best model of a training run, and all that is needed to speak with it.

    Args:
        pack: Name of an installed pack, or the folder of a pack or a run.
        vocoder: As in `choose_vocoder`; by default the pack's own choice.
        device: A torch device; by default the first GPU, else the CPU.
        detector: Finds faces; MTCNN if none is given.
        voice: For a pack of more than one voice: one of its names, or a file with a few seconds of the voice that is
            wanted. By default that of the training speaker whose face is nearest.
        backend: What runs the networks: `torch`, or `onnx` on the CPU, by what `lipsound2 export` wrote.

    Raises:
        CheckpointError: There is no such pack, or it was changed.
    """
    found = find_pack(pack)
    wanted = vocoder or found.info.vocoder
    model: Lips
    if backend == "onnx":
        folder = exported_folder(found)
        model = OnnxLips(folder)
        own = WaveGlowVocoder(OnnxWaveGlow(folder)) if wanted == WaveGlowVocoder.name else None
        chosen = own or choose_vocoder(wanted, model.config.audio, None)
    else:
        model = found.load_model(find_device(device))
        chosen = choose_vocoder(wanted, model.config.audio, found.waveglow, model.device)
    familiarity = load_familiarity(found.folder, model)
    voices = load_voices(found.folder, model.config.condition_dim)
    version = found.info.version
    pipeline = Pipeline(model, chosen, detector, familiarity, found.info.name, found.info.knows, voices, version)
    if voice is not None:
        pipeline.speak_as(voice)
    return pipeline


def _gaps(tracks: list[faces.FaceTrack], frames: int, fps: int) -> list[tuple[float, float]]:
    """List the stretches without a chosen face, in seconds."""
    edges = [0, *(edge for track in tracks for edge in (track.start, track.stop)), frames]
    return [(a / fps, b / fps) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _fit(wave: Float32[np.ndarray, " samples"], length: int) -> Float32[np.ndarray, " length"]:
    """Cut or pad a wave to a length."""
    return np.pad(wave[:length], (0, max(0, length - len(wave))))


def _faded(wave: Float32[np.ndarray, " samples"], begins: bool, ends: bool) -> Float32[np.ndarray, " samples"]:
    """Fade a wave in and out where it begins and ends amid the video, so that it does not click."""
    size = min(FADE, len(wave))
    rise = np.linspace(0, 1, size, dtype=np.float32)
    faded = wave.copy()
    if begins:
        faded[:size] *= rise
    if ends:
        faded[len(wave) - size :] *= rise[::-1]
    return faded


def _unheard(stretch: Stretch, wave: Float32[np.ndarray, " samples"], sample_rate: int) -> None:
    """Tell nobody."""


def _silent(stage: str, share: float) -> None:
    """Report nothing."""
