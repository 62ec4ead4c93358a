"""Frames and a wave -> an MP4 file with H.264 video and AAC audio that start together."""

import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lipsound2.media import Image, Samples
from lipsound2.runtime.atomic import atomic_path

AAC_BLOCK = 1024
BIT_RATE = 64_000


def write_film(target: Path, pictures: Iterable[Image], fps: int, wave: Samples, sample_rate: int, crf: int) -> None:
    """Write a clip, whole or not at all; without samples it is silent.

    The encoder's delay is written into the file as an edit list, so that players start both streams at 0.

    Args:
        target: The file.
        frames: RGB frames of one even size.
        fps: Frames a second.
        wave: Mono samples in [-1, 1], or none.
        sample_rate: Samples a second.
        crf: Constant rate factor of H.264.

    Raises:
        LipSoundError: The file cannot be written.
    """
    with atomic_path(target) as temporary, av.open(str(temporary), "w", format="mp4") as output:
        # Both streams must be known before the first packet is written.
        video = _video_stream(output, fps, crf)
        sound = _sound_stream(output, sample_rate) if len(wave) else None
        streams = [_encoded_pictures(video, pictures)]
        if sound is not None:
            streams.append(_encoded_sound(sound, wave, sample_rate))
        for packet in heapq.merge(*streams, key=_decoding_time):
            output.mux(packet)


def _video_stream(output: av.container.OutputContainer, fps: int, crf: int) -> av.VideoStream:
    # x264's macroblock tree gives other bytes each time for frames 160 pixels wide.
    options = {"crf": str(crf), "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
    stream = output.add_stream("libx264", rate=fps, options=options)
    stream.pix_fmt = "yuv420p"
    return stream


def _sound_stream(output: av.container.OutputContainer, sample_rate: int) -> av.AudioStream:
    stream = output.add_stream("aac", rate=sample_rate, layout="mono")
    stream.bit_rate = BIT_RATE
    return stream


def _encoded_pictures(stream: av.VideoStream, pictures: Iterable[Image]) -> Iterator[av.Packet]:
    for index, picture in enumerate(pictures):
        if index == 0:
            stream.height, stream.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = index
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _encoded_sound(stream: av.AudioStream, wave: Samples, sample_rate: int) -> Iterator[av.Packet]:
    for start in range(0, len(wave), AAC_BLOCK):
        block = np.ascontiguousarray(np.clip(wave[start : start + AAC_BLOCK], -1, 1)[None], np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _decoding_time(packet: av.Packet) -> Fraction:
    return Fraction(packet.dts or 0) * packet.time_base
