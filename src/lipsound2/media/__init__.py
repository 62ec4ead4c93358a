"""Any video file -> frames at a fixed rate and samples on the same clock; samples -> wav and video files.

The clock of a file starts at its first picture. Frames are picked by time stamp, never by index, and
sound that starts earlier or later than the picture is cut or padded, so that sample
`k * sample_rate / fps` always sounds while frame `k` is seen.
"""

from lipsound2.media.clock import PictureAccount
from lipsound2.media.container import VIDEO_SUFFIXES, MediaInfo, probe
from lipsound2.media.excerpt import WHOLE, Excerpt
from lipsound2.media.frames import Converter, Frame, FrameStream, Image, stream_frames
from lipsound2.media.sound import Samples, SoundStream, read_audio, stream_audio, write_wav
from lipsound2.media.writing import Caption, Tags, write_video

__all__ = [
    "VIDEO_SUFFIXES",
    "WHOLE",
    "Caption",
    "Converter",
    "Excerpt",
    "Frame",
    "FrameStream",
    "Image",
    "MediaInfo",
    "PictureAccount",
    "Samples",
    "SoundStream",
    "Tags",
    "probe",
    "read_audio",
    "stream_audio",
    "stream_frames",
    "write_video",
    "write_wav",
]
