"""Pictures as a camera delivers them -> frames at a fixed rate with the time at which each was seen.

Pictures come from a thread of their own, so that none is missed while others are worked on. If work falls behind, the
oldest are dropped and counted: sound must not lag further and further behind the lips.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lipsound2 import media
from lipsound2.errors import LipSoundError, MediaError, guard
from lipsound2.media import Image

LONGEST_GAP = 1.0
"""Seconds without a picture that are left out instead of standing still."""


class Shot(NamedTuple):
    """A frame and when it was seen, in seconds by `time.monotonic`."""

    time: float
    image: Image


class Camera:
    """Frames at a fixed rate, waiting to be taken.

    Args:
        fps: Frames a second.
        most: Frames that wait; older ones are dropped.
        patient: Whether whoever puts a picture waits for room instead, as for a file that need not be played in time.

    Attributes:
        dropped: Frames that were too many to be worked on.
        repeated: Frames that the camera did not deliver in time.
    """

    def __init__(self, fps: int, most: int = 25, patient: bool = False) -> None:
        self.fps = fps
        self.most = most
        self.patient = patient
        self.dropped = self.repeated = 0
        self.error: LipSoundError | None = None
        self._waiting: deque[Shot] = deque()
        self._change = threading.Condition()
        self._ended = False
        self._start: float | None = None
        self._slot = -1
        self._last: Shot | None = None

    def put(self, stamp: float, image: Image, seen: float | None = None) -> None:
        """Take a picture.

        Args:
            stamp: When it was taken, in seconds of the camera's clock.
            image: RGB.
            seen: When it was seen by `time.monotonic`; now, if it is not told.
        """
        shot = Shot(time.monotonic() if seen is None else seen, image)
        with self._change:
            start = stamp if self._start is None else self._start
            slot = round((stamp - start) * self.fps)
            if self._last is None or not -1 <= slot - self._slot <= LONGEST_GAP * self.fps:
                start, slot = stamp - (self._slot + 1) / self.fps, self._slot + 1
            self._start = start
            if slot <= self._slot:
                return
            for _ in range(self._slot + 1, slot):
                assert self._last is not None
                self._append(Shot(shot.time, self._last.image))
                self.repeated += 1
            self._append(shot)
            self._slot, self._last = slot, shot
            self._change.notify_all()

    def end(self, error: LipSoundError | None = None) -> None:
        """Note that no more pictures come, and why."""
        with self._change:
            self.error = self.error or error
            self._ended = True
            self._change.notify_all()

    def facts(self) -> dict[str, int]:
        """Return what was dropped and repeated."""
        return {"dropped": self.dropped, "repeated": self.repeated}

    @property
    def ended(self) -> bool:
        """Return whether it was ended."""
        return self._ended

    def take(self, least: int, most: int | None = None) -> list[Shot]:
        """Return all frames that wait, at least so many, unless fewer are left; none when there are no more.

        Args:
            least: Frames that are waited for.
            most: Frames that are returned, the newest; older ones are dropped.
        """
        with self._change:
            self._change.wait_for(lambda: len(self._waiting) >= least or self._ended)
            waiting = list(self._waiting)
            self._waiting.clear()
            self._change.notify_all()
        taken = waiting[-most:] if most else waiting
        self.dropped += len(waiting) - len(taken)
        return taken

    def _append(self, shot: Shot) -> None:
        if self.patient:
            self._change.wait_for(lambda: len(self._waiting) < self.most or self._ended)
        self._waiting.append(shot)
        while len(self._waiting) > self.most:
            self._waiting.popleft()
            self.dropped += 1


@contextmanager
def filming(source: str, camera: Camera) -> Iterator[Camera]:
    """Fill a camera from a device by its number, or from a file as if it were one, while the block runs.

    Raises:
        MediaError: There is no such device or file.
    """
    if source.isdecimal():
        film = _device(int(source), camera)
    else:
        media.probe(Path(source))
        film = partial(_file, Path(source), camera)
    thread = threading.Thread(target=film, name="camera", daemon=True)
    thread.start()
    try:
        yield camera
    finally:
        camera.end()
        thread.join(5)


def _device(number: int, camera: Camera) -> Callable[[], None]:
    capture = cv2.VideoCapture(number)
    capture.set(cv2.CAP_PROP_FPS, camera.fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if not capture.isOpened():
        capture.release()
        raise MediaError(f"camera {number} cannot be opened", "0 is the first one; a video file can stand in for it")

    def film() -> None:
        failed = None
        while not camera.ended:
            there, image = capture.read()
            if not there:
                failed = MediaError(f"camera {number} delivers no pictures any more", "is it still plugged in?")
                break
            camera.put(time.monotonic(), np.ascontiguousarray(image[:, :, ::-1]))
        capture.release()
        camera.end(failed)

    return film


def _file(path: Path, camera: Camera) -> None:
    """Play a file: each frame comes at its time, or as soon as there is room."""
    began = time.monotonic()
    try:
        with guard(path):
            for number, image in media.stream_frames(path, camera.fps):
                if not camera.patient:
                    time.sleep(max(0.0, began + number / camera.fps - time.monotonic()))
                if camera.ended:
                    return
                camera.put(number / camera.fps, image)
        camera.end()
    except LipSoundError as error:
        camera.end(error)
