"""Small videos with known content, made on the spot."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000


def flash_and_click(
    path: Path,
    codec: str,
    sound: str,
    fps: Fraction = Fraction(25),
    seconds: float = 2.0,
    flash: float = 1.0,
    sound_start: float = 0.0,
    size: tuple[int, int] = (64, 48),
) -> None:
    """Write a black video with one white frame at `flash` s and a click of 5 ms at the same moment.

    The sound track begins at `sound_start` s.
    """
    width, height = size
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.width, video.height = width, height
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio = container.add_stream(sound, rate=RATE, layout="mono")
        wave = np.zeros(round((seconds - sound_start) * RATE), np.float32)
        click = round((flash - sound_start) * RATE)
        wave[click : click + RATE // 200] = 0.9 * np.sin(np.arange(RATE // 200) * 2 * np.pi * 3000 / RATE)
        lit = round(flash * fps)
        for index in range(round(seconds * fps)):
            image = np.full((height, width, 3), 255 if index == lit else 0, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, 1 / fps
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        size_of_chunk = audio.codec_context.frame_size or 1024
        for start in range(0, len(wave), size_of_chunk):
            chunk = wave[start : start + size_of_chunk]
            sample_format = audio.codec_context.format.name
            data = chunk if sample_format.startswith("flt") else (chunk * 32767).astype(np.int16)
            if sample_format in ("s32", "s32p"):
                data = (chunk * (2**31 - 1)).astype(np.int32)
            frame = av.AudioFrame.from_ndarray(data[None], format=sample_format, layout="mono")
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = start + round(sound_start * RATE)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def counting_video(path: Path, fps: Fraction, seconds: float, codec: str = "libx264", **stamps: object) -> None:
    """Write a video whose brightness rises linearly with time, from 16 to 235 over `seconds`."""
    times = stamps.get("times") or [float(i / fps) for i in range(round(seconds * fps))]
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 90_000)
        for time in times:
            image = np.full((48, 64, 3), round(20 + 200 * time / seconds), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
