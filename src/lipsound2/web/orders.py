"""Videos of visitors -> a bounded queue, their states, and their deletion.

An order is known to whoever holds its id, which nobody can guess; there is no list of orders.
"""

import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from lipsound2.errors import LipSoundError
from lipsound2.inference.pipeline import Sighting
from lipsound2.web.limits import Limits


class FullError(LipSoundError):
    """There is no room for another video now."""


class State(StrEnum):
    """What is being done about a video."""

    uploading = "uploading"
    waiting = "waiting"
    looking = "looking"
    choosing = "choosing"
    speaking = "speaking"
    done = "done"
    failed = "failed"


WORKED_ON = (State.looking, State.speaking)


@dataclass(eq=False)
class Order:
    """A video and what became of it.

    Attributes:
        id: Secret of whoever sent it.
        name: Shown only; files have names of ours.
        folder: All that is kept of it.
        pack: Name of the pack it is spoken with.
        vocoder: Name of its vocoder.
        reserved: Bytes that it may take on the disk.
        state: What is being done.
        began: When that was begun, by `time.monotonic`.
        touched: When something was last done about it; it is deleted a while later.
        stage: Of the work.
        share: Of the stage's work that is done, in 0..1.
        sighting: Its faces, once they were found.
        faces: Facts of each face that can be chosen.
        face: The one that was chosen, as in `Pipeline.speak`.
        files: Names of files that can be fetched, below its folder.
        result: Facts of the speech.
        error: Why it failed, and a hint.
        gone: Set when it is deleted.
    """

    id: str
    name: str
    folder: Path
    pack: str
    vocoder: str
    reserved: int
    state: State = State.uploading
    began: float = field(default_factory=time.monotonic)
    touched: float = field(default_factory=time.monotonic)
    stage: str = ""
    share: float = 0.0
    sighting: Sighting | None = None
    faces: list[dict[str, Any]] = field(default_factory=list)
    face: str | None = None
    files: dict[str, Path] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: tuple[str, str | None] | None = None
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def video(self) -> Path:
        """The uploaded file."""
        return self.folder / "video"

    def enter(self, state: State) -> None:
        """Begin another state."""
        self.state, self.stage, self.share = state, "", 0.0
        self.began = self.touched = time.monotonic()

    def fail(self, message: str, hint: str | None = None) -> None:
        """Note why nothing came of it; the video is deleted."""
        self.error = (message, hint)
        self.enter(State.failed)
        self.video.unlink(missing_ok=True)

    def seconds_left(self) -> float | None:
        """Estimate the seconds until the present work is done."""
        if self.state not in WORKED_ON or self.share < 0.03:
            return None
        return (time.monotonic() - self.began) * (1 - self.share) / self.share


class Orders:
    """All orders, of which one is worked on at a time.

    Args:
        root: Folder of their folders.
        limits: Bounds.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        self.limits = limits
        self._orders: dict[str, Order] = {}
        self._queue: list[Order] = []
        self._change = threading.Condition()

    def open(self, name: str, pack: str, vocoder: str, size: int) -> Order:
        """Begin an order whose video is about to be uploaded.

        Raises:
            FullError: There is no room for it.
        """
        with self._change:
            full = len(self._orders) >= self.limits.orders or len(self._queue) >= self.limits.waiting
            if full or self._kept() + size > self.limits.total:
                raise FullError("the server has no room for another video now", "try again in some minutes")
            id_ = secrets.token_urlsafe(24)
            order = Order(id_, name, self.root / secrets.token_hex(16), pack, vocoder, size)
            order.folder.mkdir(mode=0o700)
            self._orders[id_] = order
            return order

    def find(self, id_: str) -> Order | None:
        """Return the order of an id."""
        return self._orders.get(id_)

    def enqueue(self, order: Order) -> None:
        """Put an order at the end of the queue.

        Raises:
            FullError: The queue is full.
        """
        with self._change:
            if len(self._queue) >= self.limits.waiting:
                raise FullError("too many videos are waiting", "try again in some minutes")
            order.enter(State.waiting)
            self._queue.append(order)
            self._change.notify_all()

    def choose(self, order: Order, face: int) -> bool:
        """Put an order whose face was chosen at the end of the queue; return whether it was waiting for that."""
        with self._change:
            if order.state is not State.choosing:
                return False
            order.face = str(face)
            order.enter(State.waiting)
            self._queue.append(order)
            self._change.notify_all()
            return True

    def take(self, wait: float) -> Order | None:
        """Return the next order to work on, once there is one, or nothing after a while."""
        with self._change:
            if not self._queue:
                self._change.wait(wait)
            if not self._queue:
                return None
            order = self._queue.pop(0)
            order.enter(State.looking if order.sighting is None else State.speaking)
            return order

    def place(self, order: Order) -> int | None:
        """Return how many orders are done before this one, and itself; None if it does not wait."""
        with self._change:
            busy = any(each.state in WORKED_ON for each in self._orders.values())
            return self._queue.index(order) + 1 + busy if order in self._queue else None

    def remove(self, order: Order) -> None:
        """Delete an order and all that was kept of it; work on it ends soon."""
        with self._change:
            order.gone.set()
            self._orders.pop(order.id, None)
            if order in self._queue:
                self._queue.remove(order)
        # A file that is just being written is removed by the worker, which finds the order gone.
        shutil.rmtree(order.folder, ignore_errors=True)

    def sweep(self, now: float) -> int:
        """Delete orders that nobody has touched for long; return how many."""
        with self._change:
            resting = [order for order in self._orders.values() if order.state not in (*WORKED_ON, State.waiting)]
            old = [order for order in resting if now - order.touched > self.limits.keep]
        for order in old:
            self.remove(order)
        return len(old)

    def _kept(self) -> int:
        return sum(order.reserved for order in self._orders.values())
