"""A sample: an aligned face as a small video, its audio, and metadata; encoded and decoded."""

import io
from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np
import soundfile
from jaxtyping import Float32, UInt8

from lipsound2 import faces
from lipsound2.errors import DataError
from lipsound2.media import Converter

Crops = UInt8[np.ndarray, "frames 160 160 3"]
Wave = Float32[np.ndarray, " samples"]


@dataclass(frozen=True)
class SampleConfig:
    """Settings of samples.

    Attributes:
        fps: Frame rate.
        sample_rate: Of the audio, in Hz.
        detect_every: Frames from one look at the faces to the next, as in `faces.Watch`.
        several: What is used while several faces of similar size are seen: `leave` none, `largest`, `each`.
        max_mismatch: Largest difference in seconds between the durations of video and audio.
        min_seconds: Shortest stretch with a face that is kept.
        longest: Seconds beyond which a stretch is split at a pause.
        quality: H.264 constant rate factor of the face video; lower is better and larger.
    """

    fps: int = 25
    sample_rate: int = 16_000
    detect_every: int = 5
    several: str = "leave"
    max_mismatch: float = 0.25
    min_seconds: float = 0.5
    longest: float = 20.0
    quality: int = 12


class Sample(NamedTuple):
    """A sample as stored in a shard: its files' contents by suffix, and the metadata as a dict."""

    key: str
    files: dict[str, bytes]
    meta: dict[str, object]


def encode_crops(crops: Crops, fps: int, quality: int) -> bytes:
    """Compress face crops as an H.264 MP4; the same crops always give the same bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # Macroblock-tree rate control is off: with it x264 is not deterministic.
        options = {"crf": str(quality), "preset": "veryfast", "threads": "1", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = crops.shape[1:3]
        stream.pix_fmt = "yuv420p"
        convert = Converter()
        for crop in crops:
            container.mux(stream.encode(convert(av.VideoFrame.from_ndarray(crop, format="rgb24"), "yuv420p")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_crops(data: bytes, pixel_format: str = "rgb24") -> UInt8[np.ndarray, "frames 160 160 ..."]:
    """Decompress what `encode_crops` wrote; `pixel_format` is `rgb24` or `gray`."""
    convert = Converter()
    with av.open(io.BytesIO(data), "r") as container:
        frames = [convert(frame, pixel_format).to_ndarray() for frame in container.decode(video=0)]
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
