"""A server in this process on a free port, and a client that can also be rude."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import uvicorn

from lipsound2.web.app import Server
from lipsound2.web.limits import Limits
from lipsound2.web.models import Models
from lipsound2.web.serving import LOCAL, config

VIDEO = {"Content-Type": "application/octet-stream"}


@dataclass
class Served:
    """A running server."""

    port: int
    server: Server
    root: Path

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> HTTPResponse:
        """Send a request and read the whole answer, which is kept as `.content`."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body, headers or {})
            answer: Any = connection.getresponse()
            answer.content = answer.read()
            return answer

    def json(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Return the status and the JSON of an answer."""
        answer: Any = self.ask(method, path, body, headers)
        return answer.status, json.loads(answer.content)

    def raw(self, data: bytes, wait: float = 3.0) -> bytes:
        """Send bytes as they are and return what comes until the server hangs up, or for so many seconds."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=wait)) as line:
            line.sendall(data)
            return listen(line, wait)

    def follow(self, id_: str, *until: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until an order is in one of the given states."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _, told = self.json("GET", f"/api/videos/{id_}")
            if told.get("state") in until:
                return told
            assert told.get("state") not in ("done", "failed"), told
            time.sleep(0.05)
        raise AssertionError(f"still {told}")


def listen(line: socket.socket, seconds: float) -> bytes:
    """Return all that comes until the other side hangs up or the time is over."""
    found, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        line.settimeout(left)
        try:
            piece = line.recv(65_536)
        except (TimeoutError, ConnectionError):
            break
        if not piece:
            break
        found += piece
    return found


@contextmanager
def served(root: Path, models: Models, limits: Limits | None = None, **access: Any) -> Iterator[Served]:
    """Run a server while the block runs."""
    limits = limits or Limits()
    root.mkdir(parents=True, exist_ok=True)
    server = Server(models, root, limits)
    app = server.app(**{"names": LOCAL} | access)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        running = uvicorn.Server(config(app, limits))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not running.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Served(listening.getsockname()[1], server, root)
        finally:
            running.should_exit = True
            thread.join(30)
