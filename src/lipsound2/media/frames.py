"""Any video file -> frames at a fixed rate, upright and with square pixels."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, inf
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Int, UInt8

from lipsound2.errors import MediaError
from lipsound2.media.clock import STANDSTILL, Clock, PictureAccount
from lipsound2.media.container import opened, picture_rate, stated_duration, unstamped, video_stream, video_streams
from lipsound2.media.excerpt import WHOLE, Excerpt

SEEKABLE = ("mov,", "matroska,")
"""How the names of formats begin whose time stamps can be relied on to find a place."""
JITTER = 1e-6
"""Seconds by which the sums of time stamps may err."""
LEAP = 10.0
"""Seconds that are rather decoded than leapt over."""

_ALONE: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 18 else {}
"""Newer versions convert in one thread a core, which takes longer, above all beside other workers."""

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


def stream_frames(path: Path, fps: int = 25, excerpt: Excerpt = WHOLE, threads: int = 0) -> "FrameStream":
    """Return the frames of a video at `fps`, each the one whose time stamp lies nearest.

    Only two frames are held at a time. Rotation, mirroring and non-square pixels are undone.

    Args:
        path: The file.
        fps: Frames a second.
        excerpt: What is used of the file.
        threads: That decode; 0 takes one per core.

    Raises:
        MediaError: The file cannot be read, or holds no frame there that can be decoded.
    """
    return FrameStream(path, fps, excerpt, threads)


class FrameStream(Iterator[Frame]):
    """The frames of a video at a fixed rate, and an account of them that is whole once all were taken."""

    def __init__(self, path: Path, fps: int, excerpt: Excerpt, threads: int) -> None:
        self._pictures = Pictures(path, excerpt, threads)
        self._used = self._dropped = 0
        self._still = self._seconds = 0.0
        self._upright = Upright()
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
            filmed=pictures.excerpt.fps,
            seconds=round(self._seconds, 3),
            stated=pictures.stated,
            track=pictures.track,
            tracks=pictures.tracks,
        )

    def _stream(self, path: Path, fps: int) -> Iterator[Frame]:
        index = 0
        held: Picture | None = None
        for picture in self._pictures:
            if held is not None:
                if picture.time <= held.time:
                    self._dropped += 1
                    continue
                end = ceil((held.time + picture.time) / 2 * fps)
                yield from self._shown(held, index, end, picture.time - held.time)
                index = max(index, end)
            held = picture
        if held is None:
            raise nothing_found(path, self._pictures)
        yield from self._shown(held, index, max(1, round((held.time + held.duration) * fps)), held.duration)
        self._seconds = held.time + held.duration

    def _shown(self, picture: Picture, start: int, stop: int, seconds: float) -> Iterator[Frame]:
        self._still += seconds if seconds > STANDSTILL else 0.0
        self._seconds = picture.time
        if start < stop:
            self._used += 1
            image = self._upright(picture)
            for index in range(start, stop):
                yield Frame(index, image)


class Pictures:
    """The decoded frames of a file, their time counted from the first one, and what was met on the way.

    Attributes:
        clock: Turns stamps into time; knows what was cut and guessed.
        undecodable: Packets that could not be decoded.
        broken: Whether the file could not be read to its end.
        stated: Seconds that the file says it lasts.
        track: Number of the track, from 1, of `tracks`.
        last: Time of the last frame that was decoded.
    """

    def __init__(self, path: Path, excerpt: Excerpt = WHOLE, threads: int = 0) -> None:
        self.path = path
        self.excerpt = excerpt
        self.threads = threads
        self.clock = Clock()
        self.undecodable = 0
        self.broken = False
        self.stated: float | None = None
        self.track, self.tracks = excerpt.track or 1, 1
        self.last = 0.0

    def __iter__(self) -> Iterator[Picture]:
        start, end = self.excerpt.start, inf if self.excerpt.end is None else self.excerpt.end
        first = start_time(self.path, self.excerpt.track) if start > LEAP else None
        for picture in self.as_stamped(None if first is None else first + start - LEAP / 2):
            first = picture.time if first is None else first
            self.last = time = picture.time - first
            if time >= end:
                return
            if time >= start - JITTER:
                pace = self.excerpt.pace(1 / self.clock.period)
                yield picture._replace(time=(time - start) * pace, duration=picture.duration * pace)

    def as_stamped(self, leap: float | None = None) -> Iterator[Picture]:
        """Yield the frames with the time of the file's own clock.

        Args:
            leap: Time to begin at or somewhat before, where the file's format allows it.
        """
        with opened(self.path) as container:
            stream = video_stream(container, self.path, self.excerpt.track)
            tracks = video_streams(container)
            self.track, self.tracks = tracks.index(stream) + 1, len(tracks)
            self.stated = stated_duration(container, stream) if self.excerpt.whole else None
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self.threads
            period = float(1 / picture_rate(stream))
            aspect = stream.sample_aspect_ratio
            pixel = Fraction(aspect.numerator, aspect.denominator) if aspect else Fraction(1)
            self.clock.period, self.clock.guessed = period, unstamped(container, stream, self.path)
            if leap is not None and not self.clock.guessed and container.format.name.startswith(SEEKABLE):
                container.seek(round(leap / (stream.time_base or 1)), stream=stream)
            for frame in decoded(container, stream, self._missed, self._ended):
                base = frame.time_base or stream.time_base
                duration = float(frame.duration * base) if frame.duration and base else period
                yield Picture(self.clock.place(frame.time), duration, frame, pixel)

    def _missed(self) -> None:
        self.undecodable += 1

    def _ended(self) -> None:
        self.broken = True


def start_time(path: Path, track: int | None = None) -> float:
    """Return the time stamp of the first frame in seconds."""
    return next((picture.time for picture in Pictures(path, Excerpt(track), threads=1).as_stamped()), 0.0)


def nothing_found(path: Path, pictures: Pictures) -> MediaError:
    """Return the error of an excerpt without a frame."""
    if pictures.clock.placed and pictures.excerpt.start:
        return MediaError(
            f"{path} ends at {pictures.last:.2f} s, before the start at {pictures.excerpt.start:g} s",
            "give an earlier start",
        )
    return MediaError(f"no frame could be decoded from {path}", "the file may be truncated; try another copy")


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


class Converter:
    """Changes the size and the format of a video's frames in one thread; setting up takes longer than a frame does."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, pixel_format: str, **size: int) -> av.VideoFrame:
        """Return a frame in another format, and of another width or height if given."""
        return self._reformatter.reformat(frame, format=pixel_format, **size, **_ALONE)


class Upright:
    """Turns the frames of a video into RGB pixels, upright and square."""

    def __init__(self) -> None:
        self._convert = Converter()

    def __call__(self, picture: Picture) -> Image:
        """Return the pixels of a frame."""
        frame = picture.frame
        width = max(1, round(frame.width * picture.pixel_aspect))
        image = self._convert(frame, "rgb24", width=width).to_ndarray()
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
