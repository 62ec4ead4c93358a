"""Requests -> those that come from the page itself and from whoever may use it.

Without this, any web page that is open in a visitor's browser could talk to a server on the same machine: by a form
(cross-site request forgery), by a script, by a WebSocket, or under a name of its own that it points here (DNS
rebinding).
"""

import ipaddress
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "lipsound2"
LONGEST_HEAD = 16_000
"""Bytes of all header fields."""
SAFE = frozenset({"GET", "HEAD"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


class Access:
    """Lets requests through that may come in, and sets the headers that keep a page to itself.

    Args:
        app: What answers them.
        names: Names of this server that a browser may use, beside its numbers.
        token: Secret that each request has to bring; None lets everybody in.
        numbers: Whether any IP address is such a name, as one must be where all addresses are listened at; no other
            page can have one as its name.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], token: str | None, numbers: bool = False) -> None:
        self.app = app
        self.names = frozenset(name.lower() for name in names)
        self.token = token
        self.numbers = numbers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = self._refuse(scope)
        if refused is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403, "reason": "refused"})
        else:
            await refused(scope, receive, _with_headers(send))

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) for name, value in headers.raw) > LONGEST_HEAD:
            return PlainTextResponse("the head of the request is too large\n", 431)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._known(hosts[0]):
            return PlainTextResponse("this server is not known by that name; see --allow-host\n", 403)
        origins = headers.getlist("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE
        if changes and any(urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins):
            return PlainTextResponse("requests of other pages are refused\n", 403)
        if changes and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("requests of other pages are refused\n", 403)
        if scope["type"] == "websocket" and not origins:
            return PlainTextResponse("a WebSocket has to say which page it is of\n", 403)
        return self._admit(scope, headers)

    def _known(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.username is not None or parts.path or parts.query or parts.fragment:
            return False
        return name in self.names or (self.numbers and _is_address(name))

    def _admit(self, scope: Scope, headers: Headers) -> Response | None:
        """Ask for the token; one in the address of the page becomes a cookie."""
        if self.token is None:
            return None
        given = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=20).get("token", [])
        if scope["type"] == "http" and scope["path"] == "/" and scope["method"] == "GET" and given:
            if not self._right(given[0]):
                return PlainTextResponse("wrong token\n", 401)
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", path="/")
            return answer
        kind, _, value = headers.get("authorization", "").partition(" ")
        if (kind.lower() == "bearer" and self._right(value)) or self._right(_cookie(headers)):
            return None
        return PlainTextResponse("a token is needed: open the address that `lipsound2 serve` printed\n", 401)

    def _right(self, given: str) -> bool:
        assert self.token is not None
        return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode())


def _cookie(headers: Headers) -> str:
    try:
        cookies = SimpleCookie("; ".join(headers.getlist("cookie")))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Any = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
