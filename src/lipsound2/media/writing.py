"""The frames of a video and new audio -> an MP4 file, with captions where there are any."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from lipsound2.media.clock import MAX_GAP
from lipsound2.media.container import address, opened, picture_rate, unstamped, video_stream
from lipsound2.media.excerpt import WHOLE, Excerpt
from lipsound2.media.frames import Converter, Picture, Pictures, Upright, display_matrix, nothing_found
from lipsound2.media.sound import Samples
from lipsound2.runtime.atomic import atomic_path

MP4_CODECS = frozenset({"h264", "hevc", "av1", "mpeg4", "vp9"})
CAPTION_STYLE = b"""[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,16,&Hffffff,2
"""
"""How captions look, in the language of SubStation Alpha, which FFmpeg's encoder is set up by."""


class Tags(NamedTuple):
    """What the new file says of itself.

    Attributes:
        comment: How it was made.
        sound: Title of its audio track.
        captions: Title of its subtitle track.
        language: Of both, as in ISO 639-2.
    """

    comment: str = ""
    sound: str = ""
    captions: str = ""
    language: str = "und"


NO_TAGS = Tags()


class Caption(NamedTuple):
    """A text shown over the video, start and end in milliseconds."""

    start: int
    end: int
    text: str


def write_video(
    source: Path,
    wave: Samples,
    sample_rate: int,
    target: Path,
    captions: Sequence[Caption] = (),
    excerpt: Excerpt = WHOLE,
    tags: Tags = NO_TAGS,
) -> None:
    """Write the frames of `source` with `wave` as their only audio into the MP4 file `target`.

    Frames are copied packet by packet where all are used, MP4 can hold their codec and their time stamps only go on,
    else encoded anew as H.264. Captions become a subtitle track.

    Args:
        source: The video.
        wave: Samples in [-1, 1], from the first frame on.
        sample_rate: In Hz.
        target: The new file.
        captions: In order of time.
        excerpt: What is used of `source`.
        tags: What the new file says of itself.

    Raises:
        MediaError: `source` cannot be read.
        LipSoundError: `target` cannot be written.
    """
    pictures = Pictures(source, excerpt)
    first = next(pictures.as_stamped() if excerpt.whole else iter(pictures), None)
    if first is None:
        raise nothing_found(source, pictures)
    with atomic_path(target) as temporary, opened(source) as container:
        video = video_stream(container, source, excerpt.track)
        with av.open(address(temporary), "w", format="mp4") as output:
            if tags.comment:
                output.metadata["comment"] = tags.comment
            if excerpt.whole and _can_copy(source, container, video, first):
                shown = _copied_packets(container, video, output, first.time)
            else:
                rate = Fraction(excerpt.fps).limit_denominator(1001) if excerpt.fps else picture_rate(video)
                shown = _encoded_packets(source, excerpt, output, rate, first)
            tracks = [shown, _sound_packets(output, wave, sample_rate, tags)]
            if captions:
                tracks.append(_caption_packets(output, captions, tags))
            for packet in heapq.merge(*tracks, key=lambda p: (p.dts or 0) * p.time_base):
                output.mux(packet)


def _can_copy(path: Path, container: av.container.InputContainer, video: av.VideoStream, first: Picture) -> bool:
    """Return whether MP4 can hold the codec, time stamps are whole and increase, and nothing is mirrored."""
    if unstamped(container, video, path) or video.codec.canonical_name not in MP4_CODECS:
        return False
    matrix = display_matrix(first.frame)
    if matrix is not None and np.linalg.det(matrix) < 0:
        return False
    last: float | None = None
    with opened(path) as again:
        for packet in again.demux(again.streams[video.index]):
            if packet.size and packet.dts is not None:
                time = float(packet.dts * packet.time_base)
                if last is not None and not 0 < time - last <= MAX_GAP:
                    return False
                last = time
    return last is not None


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
    """Set the decoding time stamps of a stream's first packets, which Matroska leaves out."""
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
    path: Path, excerpt: Excerpt, output: av.container.OutputContainer, rate: Fraction, first: Picture
) -> Iterator[av.Packet]:
    upright, convert = Upright(), Converter()
    height, width = (size + size % 2 for size in upright(first).shape[:2])
    stream = output.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)

    def packets() -> Iterator[av.Packet]:
        last = -1
        for picture in Pictures(path, excerpt):
            frame = av.VideoFrame.from_ndarray(upright(picture), format="rgb24")
            frame = convert(frame, "yuv420p", width=width, height=height)
            frame.pts = last = max(last + 1, round(picture.time * 90_000))
            frame.time_base = Fraction(1, 90_000)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _sound_packets(
    output: av.container.OutputContainer, wave: Samples, sample_rate: int, tags: Tags
) -> Iterator[av.Packet]:
    stream = output.add_stream("aac", rate=sample_rate, layout="mono")
    _name(stream, tags.sound, tags.language)

    def packets() -> Iterator[av.Packet]:
        for start in range(0, len(wave), 1024):
            samples = np.ascontiguousarray(np.clip(wave[start : start + 1024], -1, 1)[None], np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _name(stream: av.stream.Stream, title: str, language: str) -> None:
    """Set the title of a track, which MP4 keeps in two places of which players read one, and its language."""
    stream.metadata["language"] = language
    if title:
        stream.metadata["title"] = stream.metadata["handler_name"] = title


def _caption_packets(
    output: av.container.OutputContainer, captions: Sequence[Caption], tags: Tags
) -> Iterator[av.Packet]:
    stream = output.add_stream("mov_text")
    _name(stream, tags.captions, tags.language)
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
