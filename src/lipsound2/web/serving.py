"""A server and an address -> requests answered until Ctrl-C."""

import asyncio
import contextlib
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lipsound2.errors import ConfigError, StorageError
from lipsound2.runtime.claims import claim
from lipsound2.runtime.terminal import say
from lipsound2.web.app import Server
from lipsound2.web.limits import Limits
from lipsound2.web.models import Models

LOCAL = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
PREFIX = "lipsound2-serve-"
SHORTEST_TOKEN = 16
CONNECTIONS = 100
"""Connections beyond which no more are answered."""
_FRAME = 400_000
"""Bytes of the largest message of a WebSocket."""
_YOUNG = 60.0
"""Seconds for which a folder is left alone."""


@dataclass(frozen=True)
class Address:
    """Where the server listens, and who may ask.

    Attributes:
        host: Address or name of this machine.
        port: 0 takes a free one.
        names: More names by which browsers reach it.
        token: Secret that visitors need; without one, anybody who reaches a local address may ask.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    names: tuple[str, ...] = ()
    token: str | None = None

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ConfigError(
                f"a token of {SHORTEST_TOKEN} or more characters was expected", "leave it out for a good one"
            )
        if self.token is not None and not (
            self.token.isascii() and self.token.replace("-", "").replace("_", "").isalnum()
        ):
            raise ConfigError("a token holds letters, digits, - and _ only", "leave it out for a good one")

    @property
    def local(self) -> bool:
        """Return whether only this machine reaches it."""
        return self.host in LOCAL

    def secret(self) -> str | None:
        """Return the token; one is made where others could reach the server."""
        return self.token or (None if self.local else secrets.token_urlsafe(24))


def serve(models: Models, address: Address, limits: Limits) -> None:
    """Answer requests until the process is interrupted; then all videos are deleted."""
    token = address.secret()
    with _folder() as root, contextlib.closing(_listen(address)) as listening:
        names = (*LOCAL, *address.names, *(() if address.host in EVERYWHERE else (address.host,)))
        app = Server(models, root, limits).app(names, token, numbers=address.host in EVERYWHERE)
        say(f"open {url(address, listening.getsockname()[1], token)}")
        say("Ctrl-C ends it; then all videos and results are deleted")
        uvicorn.Server(config(app, limits)).run(sockets=[listening])


def config(app: Any, limits: Limits) -> uvicorn.Config:
    """Return settings of the server: nothing it says of itself, nothing that waits for ever."""
    return uvicorn.Config(
        app,
        http=protocol(limits.stall),
        ws="websockets-sansio",
        ws_max_size=_FRAME,
        ws_max_queue=8,
        h11_max_incomplete_event_size=16_384,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
        server_header=False,
        proxy_headers=False,
        access_log=False,
        log_config=None,
        log_level="error",
    )


def protocol(patience: float) -> type[asyncio.Protocol]:
    """Return HTTP/1.1 that hangs up if the head of the first request does not come in time."""

    class Impatient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._late = self.loop.call_later(patience, self._hang_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._late.cancel()
            super().connection_lost(exc)

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            self._late.cancel()
            super().handle_websocket_upgrade(event)

        def _hang_up(self) -> None:
            if self.cycle is None:
                self.transport.close()

    return Impatient


def url(address: Address, port: int, token: str | None) -> str:
    """Return the address to open."""
    host = "localhost" if address.host in (*LOCAL, *EVERYWHERE) else address.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/{f'?token={token}' if token else ''}"


def _listen(address: Address) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {address.host} port {address.port}: {error.strerror or error}", "choose another --port"
        ) from error
    return listening


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that only this user can look into; those of servers that were killed are deleted."""
    root = Path(tempfile.gettempdir())
    for old in root.glob(f"{PREFIX}*"):
        # A folder that was made just now is not claimed yet.
        if old.stat().st_mtime < time.time() - _YOUNG:
            with contextlib.suppress(StorageError), claim(old, "serve"):
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    try:
        with claim(folder, "serve"):
            (folder / "videos").mkdir(mode=0o700)
            yield folder / "videos"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
