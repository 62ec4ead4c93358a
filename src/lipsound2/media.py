"""Any video file -> frames at a fixed rate and samples on the same clock; samples -> wav and video files.

The clock of a file starts at its first picture. Frames are picked by time stamp, never by index, and
sound that starts earlier or later than the picture is cut or padded, so that sample
`k * sample_rate / fps` always sounds while frame `k` is seen.
"""

import heapq
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
import soundfile
from jaxtyping import Float32, UInt8

from lipsound2.atomic import atomic_path, write_bytes
from lipsound2.errors import MediaError

VIDEO_SUFFIXES = frozenset(
    {f".{name}" for name in ("3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg")}
    | {f".{name}" for name in ("mts", "mxf", "ogv", "ts", "vob", "webm", "wmv")}
)
MP4_CODECS = frozenset({"h264", "hevc", "av1", "mpeg4", "vp9"})
MAX_STEP_BACK = 1.0
"""Seconds by which time stamps may step back before they are taken to start again."""
MAX_GAP = 10.0
"""Seconds between two time stamps beyond which the gap is cut."""
UNSTAMPED = frozenset({"h264", "hevc", "m4v", "mpegvideo", "obu"})
"""Formats whose pictures carry no time of showing."""
LISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0")
"""How files begin that name other files to be played, which are never followed."""
_OPEN: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
MAX_AUDIO_GAP = 0.02
"""Seconds by which audio time stamps may jitter before a gap is taken as real."""
CAPTION_STYLE = b"""[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,16,&Hffffff,2
"""
"""How captions look, in the language of SubStation Alpha, which FFmpeg's encoder is set up by."""

Image = UInt8[np.ndarray, "height width 3"]
Samples = Float32[np.ndarray, " samples"]


@dataclass(frozen=True)
class MediaInfo:
    """What a container says of itself; `duration`, of the picture if that is known, is in seconds."""

    width: int
    height: int
    fps: float
    video_codec: str
    duration: float | None
    audio_codec: str | None
    sample_rate: int | None


class Caption(NamedTuple):
    """A text shown over the picture, from and to when in milliseconds."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class PictureAccount:
    """What became of the pictures of a video.

    Attributes:
        decoded: Pictures decoded.
        used: Of these, pictures shown at the output rate.
        undecodable: Packets that could not be decoded.
        cut: Seconds of gaps in the time stamps that were left out.
        restarts: How often the time stamps started again.
        guessed: Whether stamps were missing and pictures were counted at `rate`.
        rate: Stated pictures a second.
    """

    decoded: int = 0
    used: int = 0
    undecodable: int = 0
    cut: float = 0.0
    restarts: int = 0
    guessed: bool = False
    rate: float = 0.0

    @property
    def lost_share(self) -> float:
        """Share of pictures that could not be decoded."""
        return self.undecodable / max(1, self.decoded + self.undecodable)

    def notes(self) -> tuple[str, ...]:
        """Return one line for each thing that was lost, cut or guessed."""
        lines = []
        if self.undecodable:
            total = self.decoded + self.undecodable
            lines.append(f"{self.undecodable} of {total} pictures could not be decoded")
        if self.guessed:
            lines.append(f"time stamps were missing: pictures are taken at the stated {self.rate:g} fps")
        if self.restarts:
            lines.append(f"the time stamps started again {self.restarts} times: joined to one recording")
        if self.cut:
            lines.append(f"gaps of {self.cut:,.0f} s in the time stamps were cut")
        return tuple(lines)


class Frame(NamedTuple):
    """One picture on the clock of the output rate: RGB, upright, with square pixels."""

    number: int
    image: Image


def probe(path: Path) -> MediaInfo:
    """Read what a file holds without decoding it.

    Raises:
        MediaError: The file is missing, empty, no media file or has no picture.
    """
    with _open(path) as container:
        video = _video_stream(container, path)
        audio = _audio_stream(container)
        return MediaInfo(
            width=video.codec_context.width,
            height=video.codec_context.height,
            fps=float(video.average_rate or 0),
            video_codec=video.codec_context.name,
            duration=_duration(container, video),
            audio_codec=audio.codec_context.name if audio else None,
            sample_rate=audio.codec_context.sample_rate if audio else None,
        )


def _duration(container: av.container.InputContainer, video: av.video.stream.VideoStream) -> float | None:
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    return container.duration / av.time_base if container.duration else None


def stream_frames(path: Path, fps: int = 25) -> "FrameStream":
    """Return the pictures of a video at `fps`, each the one whose time stamp lies nearest.

    Only two pictures are held at a time. Rotation metadata and non-square pixels are undone.

    Raises:
        MediaError: The file cannot be read or holds no picture that can be decoded.
    """
    return FrameStream(path, fps)


class FrameStream(Iterator[Frame]):
    """The pictures of a video at a fixed rate, and an account of them that is whole once all were taken."""

    def __init__(self, path: Path, fps: int) -> None:
        self._clock = _Clock()
        self._used = 0
        self._frames = self._stream(path, fps)

    def __next__(self) -> Frame:
        return next(self._frames)

    @property
    def account(self) -> PictureAccount:
        """What became of the pictures so far."""
        clock = self._clock
        rate = round(1 / clock.period, 3)
        return PictureAccount(
            clock.placed, self._used, clock.undecodable, clock.cut, len(clock.offsets) - 1, clock.guessed, rate
        )

    def _stream(self, path: Path, fps: int) -> Iterator[Frame]:
        index = 0
        held: _Picture | None = None
        for picture in _pictures(path, clock=self._clock):
            if held is not None:
                if picture.time <= held.time:
                    continue
                end = ceil((held.time + picture.time) / 2 * fps)
                self._used += index < end
                yield from _repeat(held, index, end)
                index = max(index, end)
            held = picture
        if held is None:
            raise MediaError(f"no picture could be decoded from {path}", "the file may be truncated; try another copy")
        end = max(1, round((held.time + held.duration) * fps))
        self._used += index < end
        yield from _repeat(held, index, end)


def read_audio(path: Path, sample_rate: int) -> Samples | None:
    """Read the sound of a video as mono samples in [-1, 1], starting with its first picture.

    Samples before the first picture are dropped; a late start and gaps are filled with silence. A file without
    pictures starts with its sound.

    Returns:
        The samples, or None if the file has no sound.

    Raises:
        MediaError: The file cannot be read.
    """
    with _open(path) as container:
        if not container.streams.audio:
            return None
        if _audio_stream(container) is None:
            raise MediaError(f"the sound of {path} cannot be read (no decoder for it)", "convert it, e.g. to AAC")
        first = container.streams.audio[0]
        seen = any(not stream.disposition & av.stream.Disposition.attached_pic for stream in container.streams.video)
        start = float((first.start_time or 0) * (first.time_base or 0))
    pieces = list(_placed_audio(path, sample_rate, _start_time(path) if seen else start))
    length = max((position + len(samples) for position, samples in pieces), default=0)
    wave = np.zeros(max(length, 0), np.float32)
    for position, samples in pieces:
        skip = max(-position, 0)
        wave[position + skip : position + len(samples)] = samples[skip:]
    return wave


def write_wav(path: Path, wave: Samples, sample_rate: int) -> None:
    """Write mono samples as 16-bit PCM; samples beyond full scale are clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
    write_bytes(path, buffer.getvalue())


def write_video(source: Path, wave: Samples, sample_rate: int, target: Path, captions: Sequence[Caption] = ()) -> None:
    """Write the pictures of `source` with `wave` as their only sound into the MP4 file `target`.

    Pictures are copied packet by packet where MP4 can hold their codec, else encoded anew as H.264.
    Captions become a subtitle track.

    Raises:
        MediaError: `source` cannot be read.
        LipSoundError: `target` cannot be written.
    """
    start = _start_time(source)
    with atomic_path(target) as temporary, _open(source) as container:
        video = _video_stream(container, source)
        with av.open(_address(temporary), "w", format="mp4") as output:
            make = _copied_packets if _can_copy(source, container, video) else _encoded_packets
            tracks = [make(container, video, output, start), _sound_packets(output, wave, sample_rate)]
            if captions:
                tracks.append(_caption_packets(output, captions))
            for packet in heapq.merge(*tracks, key=lambda p: (p.dts or 0) * p.time_base):
                output.mux(packet)


def _unstamped(container: av.container.InputContainer, video: av.VideoStream) -> bool:
    """Find out whether pictures carry no time of showing; AVI has only that of decoding."""
    reordered = container.format.name == "avi" and video.codec_context.has_b_frames
    return bool(reordered) or container.format.name in UNSTAMPED


def _can_copy(path: Path, container: av.container.InputContainer, video: av.VideoStream) -> bool:
    """Find out whether MP4 can hold the codec and the stamps are whole and only go on."""
    if _unstamped(container, video) or video.codec.canonical_name not in MP4_CODECS:
        return False
    last: float | None = None
    with _open(path) as again:
        for packet in again.demux(_video_stream(again, path)):
            if packet.size and packet.dts is not None:
                time = float(packet.dts * packet.time_base)
                if last is not None and not 0 < time - last <= MAX_GAP:
                    return False
                last = time
    return last is not None


class _Picture(NamedTuple):
    """A decoded picture, its time and duration in seconds and the width of a pixel in heights."""

    time: float
    duration: float
    frame: av.VideoFrame
    pixel_aspect: Fraction


@contextmanager
def _open(path: Path) -> Iterator[av.container.InputContainer]:
    if not path.exists():
        if re.match(r"[a-z]{3,6}:/", str(path)):
            raise MediaError(f"{path} is an address, a video file was expected", "download it first")
        raise MediaError(f"no such file: {path}")
    if path.is_dir():
        raise MediaError(f"{path} is a folder, a video file was expected")
    if not path.is_file():
        raise MediaError(f"{path} is a device or a pipe, a video file was expected", "store the video in a file first")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes)", "copy or record the file again")
    with path.open("rb") as file:
        if file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(LISTS):
            raise MediaError(f"{path} is not a media file but names others", "give the videos themselves")
    try:
        container = av.open(_address(path), options={"protocol_whitelist": "file"}, **_OPEN)
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        raise MediaError(
            f"{path} is not a media file that can be read ({_reason(error)})",
            "it may be truncated or of another type; `ffprobe` tells more",
        ) from error
    with container:
        yield container


def _address(path: Path) -> str:
    """Name a file so that FFmpeg never takes it for the address of something else."""
    return f"file:{path.absolute()}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise MediaError(f"{path} has no picture, only sound", "give a video of a talking face")
    usable = [stream for stream in streams if stream.codec_context is not None]
    if not usable:
        raise MediaError(f"{path} is not a media file that can be read (no decoder for its picture)")
    default = [stream for stream in usable if stream.disposition & av.stream.Disposition.default]
    if len(default) == 1:
        return default[0]
    return max(usable, key=lambda stream: (stream.frames != 1, stream.width * stream.height))


def _audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """Return the default track of sound, else the first; only those that can be decoded count."""
    usable = [stream for stream in container.streams.audio if stream.codec_context is not None]
    default = [stream for stream in usable if stream.disposition & av.stream.Disposition.default]
    return next(iter(default + usable), None)


class _Clock:
    """Turns time stamps into time that only goes on: restarts are joined, long gaps are cut, missing ones counted."""

    def __init__(self, period: float = 0.04, counting: bool = False) -> None:
        self.period, self.guessed = period, counting
        self.placed = self.undecodable = 0
        self.cut = 0.0
        self.offsets = [0.0]
        self._offset = 0.0
        self._last: float | None = None

    def place(self, stamp: float | None) -> float:
        """Return the time of the next picture or piece of sound."""
        self.placed += 1
        expected = 0.0 if self._last is None else self._last + self.period
        if stamp is None or (self.guessed and self._last is not None):
            self.guessed = True
            time = expected
        else:
            time = self._joined(stamp + self._offset, expected)
        self._last = time if self._last is None else max(self._last, time)
        return time

    def _joined(self, time: float, expected: float) -> float:
        if self._last is None or -MAX_STEP_BACK <= time - self._last <= MAX_GAP:
            return time
        self._offset += expected - time
        if time > self._last:
            self.cut += time - expected
        else:
            self.offsets.append(self._offset)
        return expected


def _decoded(container: av.container.InputContainer, stream: av.stream.Stream, clock: _Clock | None = None) -> Iterator:
    """Yield every frame of a stream that can be decoded; a broken packet costs only itself."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, MemoryError):
            return
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if clock is not None:
                clock.undecodable += 1
            continue
        yield from frames


def _pictures(path: Path, from_start: bool = True, clock: _Clock | None = None) -> Iterator[_Picture]:
    """Yield the pictures of a file, their time counted from the first one or as the file counts."""
    with _open(path) as container:
        stream = _video_stream(container, path)
        stream.thread_type = "AUTO"
        period = float(1 / (stream.average_rate or stream.guessed_rate or 25))
        aspect = stream.sample_aspect_ratio or Fraction(1)
        first: float | None = None
        clock = clock or _Clock()
        clock.period, clock.guessed = period, _unstamped(container, stream)
        for frame in _decoded(container, stream, clock):
            time = clock.place(frame.time)
            first = time if first is None else first
            base = frame.time_base or stream.time_base
            duration = float(frame.duration * base) if frame.duration and base else period
            yield _Picture(time - first if from_start else time, duration, frame, aspect)


def _start_time(path: Path) -> float:
    """Give the time stamp of the first picture in seconds."""
    return next((picture.time for picture in _pictures(path, from_start=False)), 0.0)


def _repeat(picture: _Picture, start: int, stop: int) -> Iterator[Frame]:
    if start < stop:
        image = _upright(picture)
        for index in range(start, stop):
            yield Frame(index, image)


def _upright(picture: _Picture) -> Image:
    frame = picture.frame
    width = max(1, round(frame.width * picture.pixel_aspect))
    image = frame.reformat(width=width, format="rgb24").to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def _placed_audio(path: Path, sample_rate: int, start: float) -> Iterator[tuple[int, Samples]]:
    """Yield (position, samples): runs of sound without a gap, placed on the clock that begins at `start`."""
    with _open(path) as container:
        stream = _audio_stream(container)
        if stream is None:
            return
        clock = _Clock()
        run: list[Samples] = []
        position, expected = 0, None
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        resampler = _resampler(sample_rate, layout)
        for frame in _decoded(container, stream):
            clock.period = frame.samples / frame.sample_rate
            time = clock.place(start if frame.time is None and expected is None else frame.time)
            if expected is None or abs(time - expected) > MAX_AUDIO_GAP:
                if run:
                    yield position, np.concatenate(run + _resampled(resampler, None))
                run, resampler = [], _resampler(sample_rate, layout)
                position = round((time - start) * sample_rate)
                expected = time
            expected += frame.samples / frame.sample_rate
            frame.pts = None
            run += _resampled(resampler, frame)
        if run:
            yield position, np.concatenate(run + _resampled(resampler, None))


def _resampler(sample_rate: int, layout: str) -> av.AudioResampler:
    return av.AudioResampler(format="fltp", layout=layout, rate=sample_rate)


def _resampled(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> list[Samples]:
    """Resample and average the channels, which unlike FFmpeg's own mix to mono never exceeds full scale."""
    return [f.to_ndarray().mean(axis=0) for f in resampler.resample(frame)]


def _copied_packets(
    container: av.container.InputContainer, source: av.VideoStream, output: av.container.OutputContainer, start: float
) -> Iterator[av.Packet]:
    # Without an encoder of the decoder's name (libdav1d) only the parameters of the track are copied.
    stream = output.add_stream_from_template(source, opaque=source.codec.name == "libdav1d")
    if source.codec_context.codec_tag == "hvc1":
        stream.codec_context.codec_tag = "hvc1"
    shift = round(start / (source.time_base or 1))

    def packets() -> Iterator[av.Packet]:
        for packet in _with_decoding_stamps(container.demux(source)):
            packet.pts, packet.dts = (packet.pts or 0) - shift, (packet.dts or 0) - shift
            packet.stream = stream
            yield packet

    return packets()


def _with_decoding_stamps(packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
    """Give the first packets of a stream, which Matroska leaves without, a decoding time stamp."""
    unstamped: list[av.Packet] = []
    for packet in packets:
        if packet.pts is None or not packet.size:
            continue
        if packet.dts is None:
            unstamped.append(packet)
            continue
        for before, earlier in enumerate(reversed(unstamped), 1):
            earlier.dts = packet.dts - before * (packet.duration or 1)
        yield from unstamped
        unstamped = []
        yield packet


def _encoded_packets(
    container: av.container.InputContainer, source: av.VideoStream, output: av.container.OutputContainer, start: float
) -> Iterator[av.Packet]:
    path = Path(container.name.removeprefix("file:"))
    first = _upright(next(_pictures(path)))
    height, width = (size + size % 2 for size in first.shape[:2])
    stream = output.add_stream("libx264", rate=source.average_rate or 25, options={"crf": "18", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)

    def packets() -> Iterator[av.Packet]:
        last = -1
        for picture in _pictures(path):
            frame = av.VideoFrame.from_ndarray(_upright(picture), format="rgb24")
            frame = frame.reformat(width=width, height=height, format="yuv420p")
            frame.pts = last = max(last + 1, round(picture.time * 90_000))
            frame.time_base = Fraction(1, 90_000)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _sound_packets(output: av.container.OutputContainer, wave: Samples, sample_rate: int) -> Iterator[av.Packet]:
    stream = output.add_stream("aac", rate=sample_rate, layout="mono")

    def packets() -> Iterator[av.Packet]:
        for start in range(0, len(wave), 1024):
            samples = np.ascontiguousarray(np.clip(wave[start : start + 1024], -1, 1)[None], np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _caption_packets(output: av.container.OutputContainer, captions: Sequence[Caption]) -> Iterator[av.Packet]:
    stream = output.add_stream("mov_text")
    stream.codec_context.subtitle_header = CAPTION_STYLE
    stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)

    def packets() -> Iterator[av.Packet]:
        for caption in captions:
            # A sample of 3GPP timed text is its length in bytes and the text.
            text = caption.text.encode()
            packet = av.Packet(len(text).to_bytes(2, "big") + text)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = caption.start
            packet.duration = caption.end - caption.start
            yield packet

    return packets()
