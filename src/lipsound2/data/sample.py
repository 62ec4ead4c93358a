"""A clip -> a sample: the aligned face as a small video, its audio, and metadata."""

import io
import json
from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np
import soundfile
from jaxtyping import Float32, UInt8

from lipsound2 import faces, media
from lipsound2.corpora.clip import Clip
from lipsound2.data.fingerprint import FINGERPRINT, fingerprint
from lipsound2.errors import DataError, MediaError
from lipsound2.runtime.names import sample_key

Crops = UInt8[np.ndarray, "frames 160 160 3"]
Wave = Float32[np.ndarray, " samples"]


MAX_LOST = 0.1
"""Share of missing or frozen frames above which a clip is refused."""


@dataclass(frozen=True)
class SampleConfig:
    """Settings of samples.

    Attributes:
        fps: Frame rate.
        sample_rate: Of the audio, in Hz.
        detect_every: Frames from one face detection to the next.
        face: Which face, as in `faces.select`.
        max_mismatch: Largest difference in seconds between the durations of video and audio.
        min_seconds: Shortest stretch with a face that is kept.
        quality: H.264 constant rate factor of the face video; lower is better and larger.
    """

    fps: int = 25
    sample_rate: int = 16_000
    detect_every: int = 5
    face: str = "largest"
    max_mismatch: float = 0.25
    min_seconds: float = 0.5
    quality: int = 12


class Sample(NamedTuple):
    """A sample as stored in a shard: its files' contents by suffix, and the metadata as a dict."""

    key: str
    files: dict[str, bytes]
    meta: dict[str, object]


def make_sample(clip: Clip, detector: faces.Detector, config: SampleConfig) -> Sample:
    """Detect and crop the face of a clip, and cut its audio to the same time.

    Raises:
        LipSoundError: The clip cannot be used; the message says why.
    """
    wave = media.read_audio(clip.video, config.sample_rate)
    if wave is None:
        raise MediaError(f"{clip.video} has no audio")
    stream = media.stream_frames(clip.video, config.fps)
    tracking = faces.find_tracks(stream, detector, config.detect_every)
    _check(stream.account, clip)
    seconds = tracking.frames / config.fps
    mismatch = abs(len(wave) / config.sample_rate - seconds)
    if mismatch > config.max_mismatch:
        raise DataError(
            f"video ({seconds:.2f} s) and audio ({len(wave) / config.sample_rate:.2f} s) differ by more than "
            f"{config.max_mismatch:g} s"
        )
    track = max(faces.select(tracking, config.face)[0], key=len)
    if len(track) < config.min_seconds * config.fps:
        raise DataError(f"the face is visible for only {len(track) / config.fps:.2f} s")
    crops = np.stack(list(faces.crop_faces(media.stream_frames(clip.video, config.fps), track)))
    sound = _stretch(wave, track, config)
    meta: dict[str, object] = {
        "id": clip.id,
        "speaker": clip.speaker,
        "split": clip.split,
        "transcript": clip.transcript,
        "frames": len(track),
        "first_frame": track.start,
        "fps": config.fps,
        "sample_rate": config.sample_rate,
        FINGERPRINT: fingerprint(sound, config.sample_rate),
    }
    if notes := stream.account.notes():
        meta["notes"] = list(notes)
    files = {
        "json": json.dumps(meta, ensure_ascii=False, sort_keys=True).encode(),
        "mp4": encode_crops(crops, config.fps, config.quality),
        "flac": encode_wave(sound, config.sample_rate),
    }
    return Sample(sample_key(clip.id), files, meta)


def _check(pictures: media.PictureAccount, clip: Clip) -> None:
    if pictures.lost_share > MAX_LOST:
        raise MediaError(
            f"{clip.video}: {pictures.lost_share:.0%} of the frames are missing ({'; '.join(pictures.notes())})",
            f"copy or record the file again; at most {MAX_LOST:.0%} may be",
        )


def encode_crops(crops: Crops, fps: int, quality: int) -> bytes:
    """Compress face crops as an H.264 MP4; the same crops always give the same bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # Macroblock-tree rate control is off: with it x264 is not deterministic.
        options = {"crf": str(quality), "preset": "medium", "threads": "1", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = crops.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for crop in crops:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(crop, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_crops(data: bytes, pixel_format: str = "rgb24") -> UInt8[np.ndarray, "frames 160 160 ..."]:
    """Decompress what `encode_crops` wrote; `pixel_format` is `rgb24` or `gray`."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = [frame.to_ndarray(format=pixel_format) for frame in container.decode(video=0)]
    if not frames:
        raise DataError("the face video has no frames")
    if any(frame.shape[:2] != (faces.CANVAS, faces.CANVAS) for frame in frames):
        raise DataError(f"the face video is not of {faces.CANVAS} x {faces.CANVAS} pixels")
    return np.stack(frames)


def encode_wave(wave: Wave, sample_rate: int) -> bytes:
    """Compress samples as 16-bit FLAC."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1, 1), sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_wave(data: bytes) -> Wave:
    """Decompress what `encode_wave` wrote."""
    try:
        wave = soundfile.read(io.BytesIO(data), dtype="float32")[0]
    except soundfile.LibsndfileError as error:
        raise DataError(f"its audio is no complete FLAC: {error.error_string}") from error
    if wave.ndim != 1:
        raise DataError(f"its audio has {wave.shape[1]} channels, one was expected")
    return wave


def _stretch(wave: Wave, track: faces.FaceTrack, config: SampleConfig) -> Float32[np.ndarray, " stretch"]:
    """Cut the audio of a face track, padded with silence to its exact length."""
    start, stop = (frame * config.sample_rate // config.fps for frame in (track.start, track.stop))
    return np.pad(wave[start:stop], (0, max(0, stop - max(len(wave), start))))
