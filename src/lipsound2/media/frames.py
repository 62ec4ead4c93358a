"""Any video file -> frames at a fixed rate, upright and with square pixels."""

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, inf
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from jaxtyping import Int, UInt8

from lipsound2.errors import MediaError
from lipsound2.media.clock import STANDSTILL, Clock, PictureAccount
from lipsound2.media.container import opened, picture_rate, stated_duration, unstamped, video_stream, video_streams

Image = UInt8[np.ndarray, "height width 3"]


class Frame(NamedTuple):
    """One frame at the output rate: RGB, upright, with square pixels."""

    number: int
    image: Image


class Picture(NamedTuple):
    """A decoded frame, its time and duration in seconds and its pixel aspect ratio."""

    time: float
    duration: float
    frame: av.VideoFrame
    pixel_aspect: Fraction


INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "asf"})
"""Formats that list the frames which can be decoded alone."""
Span = tuple[float, float]
"""Start and end of a part of a file, in seconds on its clock."""


def stream_frames(path: Path, fps: int = 25, track: int | None = None, span: Span | None = None) -> "FrameStream":
    """Return the frames of a video at `fps`, each the one whose time stamp lies nearest.

    Only two frames are held at a time. Rotation, mirroring and non-square pixels are undone.

    Args:
        path: The file.
        fps: Frames a second.
        track: Number of the video track, from 1; by default as in `container.video_stream`.
        span: The part of the video that is taken, whose frames are numbered from 0; by default all.

    Raises:
        MediaError: The file cannot be read or holds no frame that can be decoded, or ends before `span`.
    """
    return FrameStream(path, fps, track, span)


class FrameStream(Iterator[Frame]):
    """The frames of a video at a fixed rate, and an account of them that is whole once all were taken.

    Attributes:
        size: Width and height of the frames, once the first was taken.
    """

    def __init__(self, path: Path, fps: int, track: int | None, span: Span | None) -> None:
        self.size = (0, 0)
        self._span = span
        self._pictures = Pictures(path, track, span[0] if span else 0.0)
        self._used = self._dropped = 0
        self._still = self._seconds = 0.0
        self._frames = self._stream(path, fps)

    def __next__(self) -> Frame:
        return next(self._frames)

    @property
    def account(self) -> PictureAccount:
        """What became of the frames so far."""
        pictures, clock = self._pictures, self._pictures.clock
        return PictureAccount(
            decoded=clock.placed,
            used=self._used,
            undecodable=pictures.undecodable,
            dropped=self._dropped,
            still=round(self._still, 3),
            cut=round(clock.cut, 3),
            restarts=clock.restarts,
            guessed=clock.guessed,
            broken=pictures.broken,
            rate=round(1 / clock.period, 3),
            seconds=round(self._seconds, 3),
            stated=None if self._span else pictures.stated,
            track=pictures.track,
            tracks=pictures.tracks,
        )

    def _stream(self, path: Path, fps: int) -> Iterator[Frame]:
        start, end = self._span or (0.0, inf)
        first = index = round(start * fps)
        last = sys.maxsize if end == inf else round(end * fps)
        held: Picture | None = None
        for picture in self._pictures:
            if held is not None:
                if picture.time <= held.time:
                    self._dropped += 1
                    continue
                stop = ceil((held.time + picture.time) / 2 * fps)
                yield from self._shown(held, index, min(stop, last), picture.time - held.time, first)
                index = max(index, stop)
            held = picture
            if index >= last:
                break
        if held is None:
            raise MediaError(f"no frame could be decoded from {path}", "the file may be truncated; try another copy")
        stop = max(1, round((held.time + held.duration) * fps))
        if stop <= first:
            raise MediaError(f"{path} ends at {held.time:.1f} s, before the part from {start:.1f} s to {end:.1f} s")
        yield from self._shown(held, index, min(stop, last), held.duration, first)
        self._seconds = min(held.time + held.duration, end) - start

    def _shown(self, picture: Picture, start: int, stop: int, seconds: float, first: int) -> Iterator[Frame]:
        if start >= stop:
            self._seconds = picture.time
            return
        self._still += seconds if seconds > STANDSTILL else 0.0
        self._seconds = picture.time
        self._used += 1
        image = upright(picture)
        self.size = (image.shape[1], image.shape[0])
        for index in range(start, stop):
            yield Frame(index - first, image)


class Pictures:
    """The decoded frames of a file, their time counted from the first one, and what was met on the way.

    Args:
        path: The file.
        track: Number of the video track, from 1.
        start: Seconds that may be skipped, where the file can be entered there.

    Attributes:
        clock: Turns stamps into time; knows what was cut and guessed.
        undecodable: Packets that could not be decoded.
        broken: Whether the file could not be read to its end.
        stated: Seconds that the file says it lasts.
        track: Number of the track, from 1, of `tracks`.
    """

    def __init__(self, path: Path, track: int | None = None, start: float = 0.0) -> None:
        self.path = path
        self._start = start
        self._first: float | None = None
        self.clock = Clock()
        self.undecodable = 0
        self.broken = False
        self.stated: float | None = None
        self.track, self.tracks = track or 1, 1
        self._wanted = track

    def __iter__(self) -> Iterator[Picture]:
        for picture in self.as_stamped():
            if self._first is None:
                self._first = picture.time
            yield picture._replace(time=picture.time - self._first)

    def as_stamped(self) -> Iterator[Picture]:
        """Yield the frames with the time of the file's own clock."""
        with opened(self.path) as container:
            stream = video_stream(container, self.path, self._wanted)
            tracks = video_streams(container)
            self.track, self.tracks = tracks.index(stream) + 1, len(tracks)
            self.stated = stated_duration(container, stream)
            stream.thread_type = "AUTO"
            period = float(1 / picture_rate(stream))
            aspect = stream.sample_aspect_ratio
            pixel = Fraction(aspect.numerator, aspect.denominator) if aspect else Fraction(1)
            self.clock.period, self.clock.guessed = period, unstamped(container, stream, self.path)
            self._enter(container, stream)
            for frame in decoded(container, stream, self._missed, self._ended):
                base = frame.time_base or stream.time_base
                duration = float(frame.duration * base) if frame.duration and base else period
                yield Picture(self.clock.place(frame.time), duration, frame, pixel)

    def _enter(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        """Skip to the last frame before `start` that can be decoded alone, in files that list where those are."""
        base = stream.time_base
        known = container.format.name in INDEXED and stream.start_time is not None and not self.clock.guessed
        if self._start and base and known:
            self._first = float((stream.start_time or 0) * base)
            container.seek(round((self._first + self._start) / base), stream=stream)

    def _missed(self) -> None:
        self.undecodable += 1

    def _ended(self) -> None:
        self.broken = True


def start_time(path: Path, track: int | None = None) -> float:
    """Return the time stamp of the first frame in seconds."""
    return next((picture.time for picture in Pictures(path, track).as_stamped()), 0.0)


def decoded(
    container: av.container.InputContainer,
    stream: av.stream.Stream,
    missed: Callable[[], None] = lambda: None,
    ended: Callable[[], None] = lambda: None,
) -> Iterator:
    """Yield every frame of a stream that can be decoded; a broken packet costs only itself.

    Args:
        container: The file.
        stream: The stream.
        missed: Called for each packet that cannot be decoded.
        ended: Called where the file cannot be read on.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, MemoryError):
            ended()
            return
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, MemoryError):
            missed()
            continue
        yield from frames


def upright(picture: Picture) -> Image:
    """Return the RGB pixels of a frame, upright and with square pixels."""
    frame = picture.frame
    width = max(1, round(frame.width * picture.pixel_aspect))
    image = frame.reformat(width=width, format="rgb24").to_ndarray()
    matrix = display_matrix(frame)
    return image if matrix is None else np.ascontiguousarray(turned(image, matrix))


def display_matrix(frame: av.VideoFrame) -> Int[np.ndarray, "2 2"] | None:
    """Return the signs of the matrix by which a frame is shown, ((a, b), (c, d)) of the MP4 standard, or None."""
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return None
    whole = np.frombuffer(found, np.int32)[:9].reshape(3, 3)[:2, :2].astype(np.int64)
    kept = np.eye(2, dtype=np.int64) if np.abs(np.diag(whole)).sum() >= np.abs(whole).sum() / 2 else np.eye(2)[::-1]
    signs = np.sign(whole) * kept.astype(np.int64)
    return None if (signs == np.eye(2)).all() or not np.linalg.det(signs) else signs


def turned(image: Image, matrix: Int[np.ndarray, "2 2"]) -> UInt8[np.ndarray, "height2 width2 3"]:
    """Turn and mirror pixels by quarter turns: a point (x, y) is shown at (a x + c y, b x + d y)."""
    (a, b), (c, d) = matrix
    across, down = (a, d) if a else (c, b)
    image = image if a else image.transpose(1, 0, 2)
    return image[:: int(down), :: int(across)]
