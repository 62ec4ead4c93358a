"""Orders in the queue -> faces to choose from, then speech; one at a time, in a thread of its own."""

import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

from lipsound2 import media
from lipsound2.errors import FaceError, InternalError, LipSoundError, MediaError, guard
from lipsound2.inference.pipeline import Pipeline
from lipsound2.inference.speech import Speech
from lipsound2.runtime.terminal import detail, show_error
from lipsound2.web.models import Loaded, Models
from lipsound2.web.orders import Order, Orders, State
from lipsound2.web.portraits import portraits
from lipsound2.web.results import ALL, pack_all, publish, tell

SWEEP = 10.0
"""Seconds between looks for what is to be deleted."""
SHARES = {"reading lips": (0.0, 0.5), "synthesising audio": (0.5, 0.25), "reading words": (0.75, 0.15)}
"""Where a stage of speaking begins and how much of the time it takes; the rest is writing."""


class _GoneError(LipSoundError):
    """The order was deleted while it was worked on."""


class Worker:
    """Works through the queue until it is stopped.

    Args:
        orders: The queue.
        models: What speaks.
    """

    def __init__(self, orders: Orders, models: Models) -> None:
        self.orders = orders
        self.models = models
        self.busy = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End the work; what is under way is given up."""
        self._ended.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        swept = time.monotonic()
        while not self._ended.is_set():
            order = self.orders.take(0.5)
            if order is not None:
                self.work(order)
            if time.monotonic() - swept > SWEEP:
                swept = time.monotonic()
                self.orders.sweep(swept)

    def work(self, order: Order) -> None:
        """Do the next step of an order; whatever goes wrong is its own."""
        try:
            with self.busy, guard(order.name):
                loaded = self.models.get(order.pack, order.vocoder)
                if order.sighting is None:
                    self._look(loaded.pipeline, order)
                if order.state is not State.choosing:
                    self._speak(loaded, order)
        except _GoneError:
            detail("an order was deleted while it was worked on")
        except LipSoundError as error:
            if isinstance(error, InternalError):
                show_error(error)
            message = error.message.replace(str(order.video), order.name).replace(str(order.folder), "")
            order.fail("something went wrong here" if isinstance(error, InternalError) else message, error.hint)
        if order.gone.is_set():
            shutil.rmtree(order.folder, ignore_errors=True)

    def _look(self, pipeline: Pipeline, order: Order) -> None:
        """Find the faces of a video; go on if there is one alone."""
        _check(order, self.orders)
        report = self._reporter(order, lambda _, share: share)
        order.sighting = pipeline.look(order.video, report)
        tracks = order.sighting.tracking.tracks
        if not tracks:
            raise FaceError("no face found in the whole video", "the face should look at the camera and be well lit")
        fps = pipeline.model.config.video.fps
        choice = sorted(range(len(tracks)), key=lambda n: -tracks[n].area * len(tracks[n]))[: self.orders.limits.faces]
        pictures = portraits(media.stream_frames(order.video, fps), [tracks[n] for n in choice])
        for number, picture in pictures:
            path = order.folder / f"face{choice[number] + 1}.jpg"
            path.write_bytes(picture)
            order.files[path.name] = path
        order.faces = [
            {"face": n + 1, "start": round(tracks[n].start / fps, 2), "stop": round(tracks[n].stop / fps, 2)}
            for n in choice
        ]
        if len(tracks) > 1:
            order.enter(State.choosing)
        else:
            order.face = "1"
            order.enter(State.speaking)

    def _speak(self, loaded: Loaded, order: Order) -> None:
        report = self._reporter(order, _overall)
        pipeline = loaded.pipeline
        speech = next(pipeline.speak_each(order.video, order.face or "1", report, sighting=order.sighting))
        if loaded.recognizer:
            report("reading words", 0.0)
            speech = speech.read(loaded.recognizer)
        files = publish(speech, order.folder, order.name, report)
        pack_all(files, order.folder / ALL)
        report("writing", 1.0)
        order.files |= files | {ALL: order.folder / ALL}
        order.reserved = sum(path.stat().st_size for path in (order.video, *order.files.values()))
        order.result = tell(speech, _unknown(pipeline, speech)) | _made(order, pipeline)
        order.enter(State.done)

    def _reporter(self, order: Order, overall: Callable[[str, float], float]) -> Callable[[str, float], None]:
        """Return what is told of progress, and ends the work on an order that is deleted or takes too long."""
        limit = self.orders.limits.work
        began = time.monotonic()

        def report(stage: str, share: float) -> None:
            order.stage, order.share = stage, overall(stage, share)
            if order.gone.is_set() or self._ended.is_set():
                raise _GoneError("deleted")
            if time.monotonic() - began > limit:
                raise MediaError(f"gave up after {limit:.0f} s of work", "send a shorter video")

        return report


def _overall(stage: str, share: float) -> float:
    start, part = SHARES.get(stage, (0.9, 0.1))
    return start + part * share


def _check(order: Order, orders: Orders) -> None:
    """Refuse a video that is too long or too large before it is decoded.

    Raises:
        MediaError: It is, or cannot be read.
    """
    info, limits = media.probe(order.video), orders.limits
    if info.width * info.height > limits.pixels:
        raise MediaError(f"frames of {info.width} x {info.height} pixels are too large", "send it in HD, or smaller")
    if info.duration and info.duration > limits.seconds:
        raise MediaError(
            f"the video lasts {info.duration:.0f} s, at most {limits.seconds:.0f} s are taken", "send a part of it"
        )


def _unknown(pipeline: Pipeline, speech: Speech) -> bool:
    measure, value = pipeline.familiarity, speech.familiarity
    return measure is not None and value is not None and measure.note(value, pipeline.name) is not None


def _made(order: Order, pipeline: Pipeline) -> dict[str, Any]:
    return {"pack": order.pack, "vocoder": order.vocoder, "knows": pipeline.knows, "face": int(order.face or 1)}
