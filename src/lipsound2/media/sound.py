"""The audio of a media file -> mono samples on the clock of its frames; samples -> a wav file."""

import io
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
import soundfile
from jaxtyping import Float32

from lipsound2.errors import MediaError
from lipsound2.media.clock import MAX_GAP, MAX_STEP_BACK, Clock
from lipsound2.media.container import audio_stream, opened, picture_rate, unstamped, video_stream, video_streams
from lipsound2.media.excerpt import WHOLE, Excerpt
from lipsound2.media.frames import decoded, start_time
from lipsound2.runtime.atomic import write_bytes

MAX_JITTER = 0.02
"""Seconds by which time stamps may jitter before a gap is taken as real."""
MAX_LEAD = 60.0
"""Seconds by which audio may start before the video."""
LEAD_IN = 1.0
"""Seconds before a part from which it is decoded, since codecs need some before they are right."""
MAX_SILENCE = 600.0
"""Seconds of silence that gaps in the time stamps may make in all beyond as much sound."""

Samples = Float32[np.ndarray, " samples"]


def read_audio(path: Path, sample_rate: int, excerpt: Excerpt = WHOLE) -> Samples | None:
    """Read the audio of a video as mono samples in [-1, 1], starting with its first frame.

    Samples before the first picture are dropped; a late start and gaps are filled with silence. Where the time stamps
    of the frames start again or leap, those of the audio are followed in the same way.

    Args:
        path: The file.
        sample_rate: In Hz.
        excerpt: What is read, on the clock of the excerpt's track; as fast as the file plays. A part is entered at its
            start, and the time stamps have to go on without a break.

    Returns:
        The samples, or None if the file has no audio.

    Raises:
        MediaError: The file or its audio cannot be read.
    """
    stream = stream_audio(path, sample_rate, excerpt)
    return None if stream is None else stream.rest()


def stream_audio(path: Path, sample_rate: int, excerpt: Excerpt = WHOLE) -> "SoundStream | None":
    """Return what `read_audio` does, decoded only as far as it is asked for.

    Raises:
        MediaError: The file or its audio cannot be read.
    """
    with opened(path) as container:
        if not container.streams.audio:
            return None
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(f"the audio of {path} cannot be read (no decoder for it)", "convert it, e.g. to AAC")
        seen = bool(video_streams(container))
        start = float((stream.start_time or 0) * (stream.time_base or 0))
    if excerpt.start or excerpt.end is not None:
        start = start_time(path, excerpt.track) if seen else start
        return SoundStream(path, sample_rate, _part(path, sample_rate, start, excerpt))
    course = _pictures(path, excerpt.track) if seen else Course(start)
    return SoundStream(path, sample_rate, _placed(path, sample_rate, course))


class SoundStream:
    """The audio of a file, of which only what was read and not forgotten is held.

    Attributes:
        length: Samples so far, up to the end of what was decoded.
        ended: Whether all was decoded.
    """

    def __init__(self, path: Path, sample_rate: int, pieces: Iterator[tuple[int, Samples]]) -> None:
        self.length = 0
        self.ended = False
        self._path = path
        self._sample_rate = sample_rate
        self._pieces = pieces
        self._held: deque[tuple[int, Samples]] = deque()
        self._heard = self._needed = 0

    def window(self, start: int, stop: int) -> Samples:
        """Return the samples `start` to `stop` - 1; what is not there is silence."""
        # Pieces may overlap by so much, and the later one is heard.
        self._decode(stop + round(MAX_STEP_BACK * self._sample_rate))
        wave = np.zeros(stop - start, np.float32)
        for position, samples in self._held:
            first, last = max(position, start), min(position + len(samples), stop)
            if first < last:
                wave[first - start : last - start] = samples[first - position : last - position]
        return wave

    def forget(self, before: int) -> None:
        """Drop the samples before `before`, now and when they are decoded: they are asked for no more."""
        self._needed = before
        while self._held and _end(self._held[0]) <= before:
            self._held.popleft()

    def rest(self) -> Samples:
        """Decode all that is left and return everything that is held, from the first sample on."""
        self._decode(None)
        return self.window(0, self.length)

    def skip(self) -> None:
        """Decode all that is left without holding it, so that `length` is known."""
        self.forget(sys.maxsize)
        self._decode(None)

    def _decode(self, stop: int | None) -> None:
        """Decode up to a sample, or to the end.

        Raises:
            MediaError: The time stamps leap so much that they make no sense.
        """
        while not self.ended and (stop is None or self.length < stop):
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
            elif _end(piece) > 0:
                self._heard += len(piece[1])
                self.length = max(self.length, _end(piece))
                if _end(piece) > self._needed:
                    self._held.append(piece)
        if self.ended and self.length > 2 * self._heard + MAX_SILENCE * self._sample_rate:
            raise MediaError(f"the audio of {self._path} has time stamps that make no sense", "convert it, e.g. to AAC")


def _end(piece: tuple[int, Samples]) -> int:
    return piece[0] + len(piece[1])


def write_wav(path: Path, wave: Samples, sample_rate: int, comment: str = "") -> None:
    """Write mono samples as 16-bit PCM, with a comment if given; samples beyond full scale are clipped."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", sample_rate, 1, "PCM_16", format="WAV") as file:
        if comment:
            file.comment = comment
        file.write(np.clip(wave, -1, 1))
    write_bytes(path, buffer.getvalue())


class Course(NamedTuple):
    """How the time stamps of the frames go.

    Attributes:
        start: That of the first frame, in seconds.
        end: When the frames end on the clock that begins with this stamp.
        offsets: What is added to the stamps after each break in them.
    """

    start: float
    end: float = inf
    offsets: tuple[float, ...] = ()


def _pictures(path: Path, track: int | None) -> Course:
    """Follow the time stamps of the frames without decoding them."""
    start = start_time(path, track)
    with opened(path) as container:
        video = video_stream(container, path, track)
        clock = Clock(float(1 / picture_rate(video)))
        time = 0.0
        if unstamped(container, video, path):
            return Course(start)
        with suppress(av.error.FFmpegError, MemoryError):
            for packet in container.demux(video):
                if packet.size and packet.dts is not None:
                    time = clock.place(float(packet.dts * packet.time_base))
    return Course(start, time, tuple(clock.offsets))


def _part(path: Path, sample_rate: int, start: float, excerpt: Excerpt) -> Iterator[tuple[int, Samples]]:
    """Yield (position, samples) of a part of a file whose clock starts at the time stamp `start`."""
    first = round(excerpt.start * sample_rate)
    last = sys.maxsize if excerpt.end is None else round(excerpt.end * sample_rate)
    for position, samples in _placed(path, sample_rate, Course(start), excerpt):
        skip = max(first - position, 0)
        kept = samples[skip : max(last - position, 0)]
        if len(kept):
            yield position + skip - first, kept


def _placed(path: Path, sample_rate: int, pictures: Course, excerpt: Excerpt = WHOLE) -> Iterator[tuple[int, Samples]]:
    """Yield (position, samples): audio as it is decoded, placed on the clock of the frames."""
    start = pictures.start
    with opened(path) as container:
        stream = audio_stream(container)
        assert stream is not None
        if excerpt.start > LEAD_IN and stream.time_base:
            container.seek(round((start + excerpt.start - LEAD_IN) / stream.time_base), stream=stream)
        clock = Clock(offsets=pictures.offsets)
        position, expected = 0, None
        kind: tuple[str, str, int] | None = None
        resampler: av.AudioResampler | None = None
        for frame in decoded(container, stream):
            clock.period = frame.samples / frame.sample_rate
            time = clock.place(start if expected is None and _astray(frame.time, pictures) else frame.time)
            if excerpt.end is not None and time - start > excerpt.end:
                break
            before, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
            if expected is None or before != kind or abs(time - expected) > MAX_JITTER:
                for samples in _resampled(resampler, None):
                    yield position, samples
                    position += len(samples)
                resampler = _resampler(sample_rate, "mono" if frame.layout.nb_channels == 1 else "stereo")
                position = round((time - start) * sample_rate)
                expected = time
            expected += frame.samples / frame.sample_rate
            frame.pts = None
            for samples in _resampled(resampler, frame):
                yield position, samples
                position += len(samples)
        for samples in _resampled(resampler, None):
            yield position, samples
            position += len(samples)


def _astray(time: float | None, pictures: Course) -> bool:
    """Return whether the first audio has no time stamp, or one far from all frames, which means nothing."""
    return time is None or not pictures.start - MAX_LEAD <= time <= pictures.end + MAX_GAP


def _resampler(sample_rate: int, layout: str) -> av.AudioResampler:
    return av.AudioResampler(format="fltp", layout=layout, rate=sample_rate)


def _resampled(resampler: av.AudioResampler | None, frame: av.AudioFrame | None) -> list[Samples]:
    """Resample and average the channels, which unlike FFmpeg's own mix to mono never exceeds full scale."""
    return [] if resampler is None else [f.to_ndarray().mean(axis=0) for f in resampler.resample(frame)]
