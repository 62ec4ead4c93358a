"""A WebSocket of the page -> a live session: frames of its camera come in, sound and words go out.

What comes in is a number of 8 bytes, seconds of the page's clock, big-endian, and a JPEG file. What goes out is such a
number, that of the first frame that is heard, and samples of 16 bits, little-endian; or JSON: `ready`, how many frames
were `taken`, `words` that are `settled` and `open`, the `state` and how many frames were `dropped`, or an `error`.
"""

import asyncio
import io
import json
import math
import struct
import time
from contextlib import suppress
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from lipsound2.errors import LipSoundError, MediaError, guard
from lipsound2.live.camera import Camera
from lipsound2.live.captions import Caption, Captions
from lipsound2.live.loudspeaker import to_bytes
from lipsound2.live.session import Pace, Session
from lipsound2.web.limits import Limits
from lipsound2.web.models import Loaded, Models
from lipsound2.web.orders import FullError

LARGEST = (1280, 1280)
"""Pixels across and down of a frame."""
BACKLOG = 200
"""Messages that a page may leave unread."""
WORDS = 12
"""Settled words that are shown."""
VOCODER = "griffin-lim"
"""The one that speaks live."""


class Stage:
    """Where visitors speak live.

    Args:
        models: What speaks.
        limits: How many at once.
    """

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models = models.again()
        self.limits = limits
        self._there = 0

    async def serve(self, socket: WebSocket) -> None:
        """Speak for a visitor until the socket is closed."""
        await socket.accept()
        self._there += 1
        try:
            if self._there > self.limits.live:
                raise FullError("somebody else is speaking live", "try again in a minute, or record a video")
            pack, _ = self.models.check(socket.query_params.get("pack", ""), "")
            loaded = await run_in_threadpool(self.models.get, pack, VOCODER)
            await Visit(socket, loaded, self.limits).run()
        except LipSoundError as error:
            await _say(socket, {"error": error.message, "hint": error.hint})
        except WebSocketDisconnect:
            pass
        finally:
            self._there -= 1
            if socket.application_state is WebSocketState.CONNECTED:
                with suppress(WebSocketDisconnect):
                    await socket.close()


class Visit:
    """One visitor speaking live."""

    def __init__(self, socket: WebSocket, loaded: Loaded, limits: Limits) -> None:
        self.socket = socket
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        self._out: asyncio.Queue[bytes | dict[str, Any] | None] = asyncio.Queue()
        self._settled: list[str] = []
        self._offset: float | None = None
        rate = loaded.pipeline.model.config.audio.sample_rate
        captions = Captions(loaded.recognizer, rate, self._show) if loaded.recognizer else None
        self.camera = Camera(loaded.pipeline.model.config.video.fps)
        self.session = Session(loaded.pipeline, Pace(), self._hear, captions)

    async def run(self) -> None:
        """Take frames and send what is made of them until either side ends."""
        await _say(self.socket, {"ready": True})
        work = asyncio.create_task(run_in_threadpool(self._work))
        sending = asyncio.create_task(self._send())
        taking = asyncio.create_task(self._take())
        try:
            await asyncio.wait({work, sending, taking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.camera.end()
            for task in (sending, taking):
                task.cancel()
            found = await asyncio.gather(work, sending, taking, return_exceptions=True)
        for each in found:
            if isinstance(each, Exception):
                raise each

    def _work(self) -> None:
        with guard("the camera"):
            self.session.run(self.camera)

    async def _take(self) -> None:
        told, taken = time.monotonic(), 0
        while True:
            stamp, image = await run_in_threadpool(read_frame, await self._receive())
            self._offset = time.monotonic() - stamp if self._offset is None else self._offset
            self.camera.put(stamp, image, stamp + self._offset)
            taken += 1
            self._put({"taken": taken})
            if time.monotonic() - told > 1:
                told = time.monotonic()
                self._put({"state": self._state(), "dropped": self.camera.dropped})

    async def _receive(self) -> bytes:
        try:
            return await asyncio.wait_for(self.socket.receive_bytes(), self.limits.stall)
        except TimeoutError as error:
            raise MediaError(f"the page sent no frame for {self.limits.stall:g} s") from error

    async def _send(self) -> None:
        while True:
            message = await self._out.get()
            if isinstance(message, bytes):
                await self.socket.send_bytes(message)
            else:
                await _say(self.socket, message or {})

    def _hear(self, wave: Float32[np.ndarray, " samples"], seen: float) -> None:
        stamp = struct.pack(">d", seen - (self._offset or 0.0))
        self._loop.call_soon_threadsafe(self._put, stamp + to_bytes(wave))

    def _show(self, caption: Caption) -> None:
        self._settled = [*self._settled, *(word.text for word in caption.settled)][-WORDS:]
        words = {"settled": " ".join(self._settled), "open": " ".join(word.text for word in caption.open)}
        self._loop.call_soon_threadsafe(self._put, {"words": words})

    def _put(self, message: bytes | dict[str, Any]) -> None:
        if self._out.qsize() >= BACKLOG:
            self.camera.end(MediaError("the page does not read what it is sent"))
            return
        self._out.put_nowait(message)

    def _state(self) -> str:
        account = self.session.account
        if not account.frames:
            return "Starting …"
        return "Speaking." if self.session.face else "No face is seen: look at the camera."


def read_frame(message: bytes) -> tuple[float, UInt8[np.ndarray, "height width 3"]]:
    """Read the time and the pixels of a frame; its size is looked at before it is decoded.

    Raises:
        MediaError: It is none.
    """
    try:
        (stamp,) = struct.unpack_from(">d", message)
        if not math.isfinite(stamp) or abs(stamp) > 1e9:
            raise MediaError("the time of a frame is no number")
        picture = Image.open(io.BytesIO(message[8:]), formats=("JPEG",))
        if picture.width > LARGEST[0] or picture.height > LARGEST[1]:
            raise MediaError(f"a frame of {picture.width} x {picture.height} pixels is too large")
        return stamp, np.asarray(picture.convert("RGB"))
    except (struct.error, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise MediaError("a frame of the camera cannot be read") from error


async def _say(socket: WebSocket, told: dict[str, Any]) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        await socket.send_text(json.dumps(told))
