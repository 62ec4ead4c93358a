"""What is asked of the server -> answers: the page, orders and their files.

GET    /                             the page; /page/NAME are its parts
GET    /api/about                    packs, vocoders, limits
POST   /api/videos?name=&pack=&vocoder=   a video as the body -> its order
GET    /api/videos/ID                what becomes of it
POST   /api/videos/ID/face           {"face": 2}
GET    /api/videos/ID/files/NAME     a file of the result; with ?save to keep
DELETE /api/videos/ID                deletes all that is kept of it
WS     /api/live                     frames of a camera -> speech
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from lipsound2 import __version__
from lipsound2.errors import ConfigError, LipSoundError
from lipsound2.web.access import Access
from lipsound2.web.limits import Limits
from lipsound2.web.live import Stage
from lipsound2.web.models import Models
from lipsound2.web.names import shown, stem
from lipsound2.web.orders import FullError, Order, Orders, State
from lipsound2.web.uploads import UploadError, declared_size, read_small, receive
from lipsound2.web.worker import Worker

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".mp4": "video/mp4",
    ".wav": "audio/wav",
    ".txt": "text/plain; charset=utf-8",
    ".srt": "text/plain; charset=utf-8",
    ".vtt": "text/vtt; charset=utf-8",
    ".json": "application/json",
    ".zip": "application/zip",
}
"""Kinds of files that are sent, by suffix."""


class Server:
    """Answers requests.

    Args:
        models: What speaks.
        root: An empty folder for all that is kept.
        limits: Bounds.
    """

    def __init__(self, models: Models, root: Path, limits: Limits) -> None:
        self.models = models
        self.limits = limits
        self.orders = Orders(root, limits)
        self.worker = Worker(self.orders, models)
        self.stage = Stage(models, limits)
        self.parts = {entry.name: entry.read_bytes() for entry in files("lipsound2.web").joinpath("page").iterdir()}

    def app(self, names: Iterable[str] = (), token: str | None = None, numbers: bool = False) -> Access:
        """Return the application, guarded as `Access` does; arguments as there."""
        routes = [
            Route("/", self._page),
            Route("/page/{name}", self._page),
            Route("/api/about", self._about),
            Route("/api/videos", self._upload, methods=["POST"]),
            Route("/api/videos/{id}", self._state),
            Route("/api/videos/{id}", self._delete, methods=["DELETE"]),
            Route("/api/videos/{id}/face", self._choose, methods=["POST"]),
            Route("/api/videos/{id}/files/{name}", self._file),
            WebSocketRoute("/api/live", self._live),
        ]
        handlers: dict[Any, Callable[..., Response]] = {LipSoundError: _refusal, ClientDisconnect: _left}
        return Access(
            Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan), names, token, numbers
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.worker.start()
        yield
        await run_in_threadpool(self.worker.stop)

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self.parts:
            return Response(status_code=404)
        return Response(self.parts[name], media_type=TYPES[Path(name).suffix])

    async def _about(self, _: Request) -> Response:
        limits = {"upload": self.limits.upload, "seconds": self.limits.seconds, "keep": self.limits.keep}
        live = self.limits.live > 0
        return JSONResponse({"version": __version__, "packs": self.models.facts(), "limits": limits, "live": live})

    async def _upload(self, request: Request) -> Response:
        if request.headers.get("content-type") != "application/octet-stream":
            # A form of another page cannot send this type without asking first.
            raise UploadError(415, "the video itself is expected, as application/octet-stream")
        size = declared_size(request.headers.get("content-length"), self.limits.upload)
        asked = request.query_params
        pack, vocoder = self.models.check(asked.get("pack", ""), asked.get("vocoder", ""))
        order = self.orders.open(shown(asked.get("name", "")[:1000]), pack, vocoder, size)
        try:
            order.reserved = await receive(request.stream(), order.video, self.limits)
            self.orders.enqueue(order)
        except BaseException:
            self.orders.remove(order)
            raise
        return JSONResponse(self._tell(order), 201)

    async def _state(self, request: Request) -> Response:
        return JSONResponse(self._tell(self._find(request)))

    async def _choose(self, request: Request) -> Response:
        order = self._find(request)
        face = _face(await read_small(request.stream(), 1000, self.limits.stall))
        if face not in [each["face"] for each in order.faces]:
            raise UploadError(400, "there is no such face to choose")
        if not self.orders.choose(order, face):
            raise UploadError(409, "the face was chosen already")
        return JSONResponse(self._tell(order))

    async def _file(self, request: Request) -> Response:
        order, name = self._find(request), request.path_params["name"]
        path = order.files.get(name)
        if path is None or not path.is_file():
            raise UploadError(404, "there is no such file")
        kept = f"{stem(order.name)}{path.suffix}" if "save" in request.query_params else None
        return FileResponse(path, media_type=TYPES[path.suffix], filename=kept)

    async def _delete(self, request: Request) -> Response:
        order = self.orders.find(request.path_params["id"])
        if order is not None:
            await run_in_threadpool(self.orders.remove, order)
        return Response(status_code=204)

    async def _live(self, socket: WebSocket) -> None:
        await self.stage.serve(socket)

    def _find(self, request: Request) -> Order:
        order = self.orders.find(request.path_params["id"])
        if order is None:
            raise UploadError(404, "this video is not here any more", "send it again")
        return order

    def _tell(self, order: Order) -> dict[str, Any]:
        told: dict[str, Any] = {"id": order.id, "name": order.name, "state": order.state}
        told |= {"pack": order.pack, "vocoder": order.vocoder, "faces": order.faces, "files": sorted(order.files)}
        left = order.seconds_left()
        told |= {"stage": order.stage, "share": round(order.share, 3), "left": left and round(left, 1)}
        if order.state is State.waiting:
            told["place"] = self.orders.place(order)
        if order.error:
            told["error"], told["hint"] = order.error
        return told | ({"result": order.result} if order.result else {})


def _face(body: bytes) -> int:
    try:
        face = json.loads(body)["face"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UploadError(400, 'a choice is written {"face": 1}') from error
    if type(face) is not int:
        raise UploadError(400, "a face is a number")
    return face


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, LipSoundError)
    status = error.status if isinstance(error, UploadError) else _STATUS.get(type(error), 500)
    # What is left of a refused upload is not read.
    headers = {"Connection": "close"} if status in (408, 413, 415) else {}
    return JSONResponse({"error": error.message, "hint": error.hint}, status, headers)


_STATUS: dict[type[LipSoundError], int] = {FullError: 503, ConfigError: 400}


def _left(_: Request, __: Exception) -> Response:
    """Answer nobody."""
    return Response(status_code=400)
