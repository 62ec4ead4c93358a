"""How much a visitor may ask of the server, and how long it is kept."""

from dataclasses import dataclass
from math import inf

from lipsound2.config import in_range


@dataclass(frozen=True)
class Limits:
    """Bounds of what the server takes; whatever exceeds one is refused with its value.

    Attributes:
        upload: Bytes of a video.
        total: Bytes of all videos and results that are kept.
        seconds: Length of a video.
        pixels: Of a frame.
        waiting: Videos in the queue.
        orders: Videos kept, whatever became of them.
        faces: Faces of a video that can be chosen from.
        work: Seconds of work on a video.
        keep: Seconds after which a video and its results are deleted.
        stall: Seconds without a byte after which an upload, or a request's head, is given up.
        slowest: Bytes a second of an upload, on average.
        live: Visitors who speak live at once.
    """

    upload: int = 500_000_000
    total: int = 4_000_000_000
    seconds: float = 600.0
    pixels: int = 3840 * 2160
    waiting: int = 20
    orders: int = 200
    faces: int = 24
    work: float = 3600.0
    keep: float = 3600.0
    stall: float = 20.0
    slowest: float = 4000.0
    live: int = 1

    def __post_init__(self) -> None:
        in_range(self, 1, inf, "upload", "total", "pixels", "waiting", "orders", "faces")
        in_range(self, 0, inf, "seconds", "work", "keep", "stall", above=True)
        in_range(self, 0, inf, "slowest", "live")
