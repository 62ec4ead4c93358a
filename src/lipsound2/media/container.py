"""A path -> an opened media file, the tracks that are used, and what it says of itself."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.error

from lipsound2.errors import MediaError
from lipsound2.runtime.foreign import look

VIDEO_SUFFIXES = frozenset(
    {f".{name}" for name in ("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "m2ts", "m2v", "m4v", "mk3d")}
    | {f".{name}" for name in ("mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "nut", "ogm", "ogv", "qt")}
    | {f".{name}" for name in ("rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m")}
)
UNSTAMPED = frozenset({"h264", "hevc", "m4v", "mpegvideo", "obu"})
"""Formats whose frames have no presentation time stamps."""
LISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0")
"""How files begin that name other files to be played, which are never followed."""
PROTOCOLS = {"protocol_whitelist": "file"}
_PEEKED = 30
"""Packets without any time of showing after which there will be none."""
_OPEN: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


@dataclass(frozen=True)
class MediaInfo:
    """What a container says of itself; `duration`, of the video stream if known, is in seconds."""

    width: int
    height: int
    fps: float
    video_codec: str
    duration: float | None
    audio_codec: str | None
    sample_rate: int | None


def probe(path: Path, track: int | None = None) -> MediaInfo:
    """Read what a file holds without decoding it.

    Args:
        path: The file.
        track: Number of the video track, from 1; by default as in `video_stream`.

    Raises:
        MediaError: The file is missing, empty, no media file or has no video.
    """
    with opened(path) as container:
        video = video_stream(container, path, track)
        audio = audio_stream(container)
        return MediaInfo(
            width=video.codec_context.width,
            height=video.codec_context.height,
            fps=float(video.average_rate or 0),
            video_codec=video.codec_context.name,
            duration=stated_duration(container, video),
            audio_codec=audio.codec_context.name if audio else None,
            sample_rate=audio.codec_context.sample_rate if audio else None,
        )


def stated_duration(container: av.container.InputContainer, video: av.VideoStream) -> float | None:
    """Return the stated duration of the video stream in seconds; None if it may be that of the audio."""
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    stated = _seconds(video.metadata.get("DURATION", ""))
    if stated is not None:
        return stated - float((video.start_time or 0) * (video.time_base or 0))
    return container.duration / av.time_base if container.duration and not container.streams.audio else None


def _seconds(text: str) -> float | None:
    """Read a time as Matroska writes it, such as 00:00:02.240000000."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a media file for reading.

    Raises:
        MediaError: It is missing, empty, no file or no media file.
    """
    _check(path)
    try:
        container = av.open(address(path), options=PROTOCOLS, **_OPEN)
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        found = look(path)
        what = found.what if "unknown" not in found.what and "video" not in found.what else reason
        raise MediaError(
            f"{path} is not a media file that can be read: it {what}"
            if what != reason
            else f"{path} is not a media file that can be read ({reason})",
            found.hint if what != reason else "it may be truncated or of another type; `ffprobe` tells more",
        ) from error
    with container:
        yield container


def address(path: Path) -> str:
    """Name a file so that FFmpeg never takes it for the address of something else."""
    return f"file:{path.absolute()}"


def video_stream(container: av.container.InputContainer, path: Path, track: int | None = None) -> av.VideoStream:
    """Choose the video track: the one asked for, else the default one, else the largest that moves.

    Raises:
        MediaError: There is none, or none of that number.
    """
    usable = video_streams(container)
    if not usable:
        if any(not _is_cover(stream) for stream in container.streams.video):
            raise MediaError(f"{path} is not a media file that can be read (no decoder for its video)")
        raise MediaError(f"{path} has no video, only audio", "give a video of a talking face")
    if track is not None:
        if not 1 <= track <= len(usable):
            raise MediaError(f"{path} has no video track {track}", f"it has {len(usable)}")
        return usable[track - 1]
    default = [stream for stream in usable if stream.disposition & av.stream.Disposition.default]
    if len(default) == 1:
        return default[0]
    return max(usable, key=lambda stream: (stream.frames != 1, stream.width * stream.height))


def video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """List the video tracks that can be decoded, without covers."""
    return [s for s in container.streams.video if not _is_cover(s) and s.codec_context is not None]


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """Return the default audio track, else the first; only those that can be decoded count."""
    usable = [stream for stream in container.streams.audio if stream.codec_context is not None]
    default = [stream for stream in usable if stream.disposition & av.stream.Disposition.default]
    return next(iter(default + usable), None)


def picture_rate(video: av.VideoStream) -> Fraction:
    """Return the stated frames a second, 25 where nothing is stated."""
    rate = video.average_rate or video.guessed_rate
    found = Fraction(rate.numerator, rate.denominator) if rate else Fraction(25)
    return found if 0 < found <= 1000 else Fraction(25)


def unstamped(container: av.container.InputContainer, video: av.VideoStream, path: Path) -> bool:
    """Return whether frames have no presentation time stamps; AVI has decoding time stamps only."""
    if container.format.name in UNSTAMPED:
        return True
    if not video.codec_context.has_b_frames:
        return False
    if container.format.name == "avi":
        return True
    with opened(path) as again:
        packets = (packet for packet in again.demux(again.streams[video.index]) if packet.size)
        try:
            return all(packet.pts is None for packet in islice(packets, _PEEKED))
        except av.error.FFmpegError:
            return False


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _check(path: Path) -> None:
    if not path.exists():
        if re.match(r"[a-z]{3,6}:/", str(path)):
            raise MediaError(f"{path} is a URL, a video file was expected", "download it first")
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
