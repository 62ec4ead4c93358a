"""A URL and a checksum -> a file, whatever the server does on the way: fetched on from where it broke off, and checked.

A file that is not whole yet has the suffix `.partial`; a later call goes on with it.
"""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import NamedTuple

from lipsound2.errors import DownloadError
from lipsound2.runtime.atomic import storing
from lipsound2.runtime.claims import claim
from lipsound2.runtime.foreign import look
from lipsound2.runtime.terminal import detail

CACHE_VARIABLE = "LIPSOUND2_CACHE"
PARTIAL_SUFFIX = ".partial"
YUNET_URL = (
    "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
)
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

_CHUNK = 1 << 18
_LARGEST = 1 << 28
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may be others a little later."""
_UNSATISFIABLE = 416


class Remote(NamedTuple):
    """A file of a server.

    Attributes:
        url: Where it is.
        size: Its bytes, if they are known.
        checksum: Such as `md5:...` or `sha256:...`; None is not known.
        most: Bytes that it may have if its size is not known.
    """

    url: str
    size: int | None = None
    checksum: str | None = None
    most: int = _LARGEST


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout: Seconds without an answer, or with fewer than `slowest` bytes a second, after which it is asked again.
        slowest: Bytes a second.
        attempts: How often in a row it is asked in vain.
        pause: Seconds before it is asked again, doubled each time.
        longest: Most seconds between two attempts.
    """

    timeout: float = 30.0
    slowest: float = 1000.0
    attempts: int = 8
    pause: float = 1.0
    longest: float = 60.0


class TooLargeError(DownloadError):
    """A file of more bytes than are taken."""


class _BrokenOffError(Exception):
    """An attempt that another may follow.

    Args:
        reason: What happened.
        wait: Seconds that the server asks for.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(url: str, sha256: str, patience: Patience = Patience(attempts=3)) -> Path:
    """Return the cached file with this checksum, downloading it if needed.

    Raises:
        DownloadError: It cannot be fetched or is another file.
    """
    target = cache_folder() / f"{sha256[:16]}-{url.rsplit('/', 1)[-1]}"
    with claim(cache_folder(), "download", wait=True):
        if not (target.is_file() and digest(target, "sha256") == sha256):
            try:
                download(Remote(url, checksum=f"sha256:{sha256}"), target, patience)
            except DownloadError as error:
                raise DownloadError(error.message, f"fetch it by hand into {target}") from error
    return target


def download(
    remote: Remote, target: Path, patience: Patience = Patience(), sleep: Callable[[float], None] = time.sleep
) -> None:
    """Fetch a file, going on where an earlier attempt or call broke off.

    Raises:
        DownloadError: It cannot be fetched, or what the server sends is another file, twice.
        StorageError: It cannot be written.
    """
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            _persist(remote, partial, patience, sleep)
            if _is(partial, remote.checksum):
                partial.replace(target)
                return
            what = look(partial).what
            partial.unlink()
    raise DownloadError(
        f"{remote.url} is not the expected file: its checksum differs, it {what}", "try another network"
    )


def cache_folder() -> Path:
    """Return the folder for downloads: LIPSOUND2_CACHE, else the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE_VARIABLE) or Path(base) / "lipsound2")


def digest(path: Path, algorithm: str) -> str:
    """Compute a checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _is(path: Path, checksum: str | None) -> bool:
    algorithm, _, digits = (checksum or "").partition(":")
    return not digits or digest(path, algorithm) == digits.lower()


def _persist(remote: Remote, partial: Path, patience: Patience, sleep: Callable[[float], None]) -> None:
    """Receive a file to its end in as many attempts as bring something new."""
    vain = 0
    while True:
        before = _size(partial)
        try:
            return _receive(remote, partial, patience)
        except _BrokenOffError as error:
            vain = 0 if _size(partial) > before else vain + 1
            if vain >= patience.attempts:
                raise DownloadError(
                    f"cannot fetch {remote.url}: {error}", "the same command goes on where it broke off"
                ) from error
            pause = min(patience.longest, max(error.wait, patience.pause * 2 ** max(0, vain - 1)))
            detail(f"{remote.url}: {error}; asked again in {pause:g} s")
            sleep(pause)


def _receive(remote: Remote, partial: Path, patience: Patience) -> None:
    """Receive what is missing of a file.

    Raises:
        DownloadError: The server will not give it.
        _BrokenOffError: It may give the rest when asked again.
    """
    have = _size(partial)
    if remote.size is not None and have == remote.size:
        return
    if remote.size is not None and have > remote.size:
        partial.unlink()
        have = 0
    try:
        with _ask(remote.url, have, patience) as answer:
            start = _start(answer, have)
            total = _total(answer, start)
            if remote.size is not None and total not in (None, remote.size):
                raise _BrokenOffError(f"the server has a file of {total:,} bytes, {remote.size:,} were expected")
            if remote.size is None and total is not None and total > remote.most:
                raise TooLargeError(f"{remote.url} has {total:,} bytes, the limit leaves {remote.most:,}")
            _write(answer, partial, start, remote.most if remote.size is None else remote.size, patience)
    except urllib.error.HTTPError as error:
        if error.code == _UNSATISFIABLE and have:
            partial.unlink()
        elif error.code not in _PASSING:
            raise DownloadError(f"cannot fetch {remote.url}: {error.code} {error.reason}") from error
        raise _BrokenOffError(f"{error.code} {error.reason}", _seconds(error.headers.get("Retry-After"))) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, SSLCertVerificationError):
            raise DownloadError(f"cannot fetch {remote.url}: {error.reason}", "a proxy may be in the way") from error
        raise _BrokenOffError(str(error.reason)) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error
    got = _size(partial)
    if got < (remote.size if remote.size is not None else total or 0):
        raise _BrokenOffError(f"the connection broke off after {got:,} bytes")


def _ask(url: str, have: int, patience: Patience) -> http.client.HTTPResponse:
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url} is no address of the web")
    headers = {"User-Agent": "lipsound2", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    answer: http.client.HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(url, headers=headers),
        timeout=patience.timeout,
    )
    return answer


def _start(answer: http.client.HTTPResponse, have: int) -> int:
    """Return where what a server sends belongs: where it was asked to begin, or at the start."""
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0
    stated = answer.headers.get("Content-Range", "")
    if not stated.startswith(f"bytes {have}-"):
        raise _BrokenOffError(f"the server sends {stated or 'another part'}, bytes {have}- were asked for")
    return have


def _total(answer: http.client.HTTPResponse, start: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _write(answer: http.client.HTTPResponse, partial: Path, start: int, most: int, patience: Patience) -> None:
    since, there = time.monotonic(), start
    with partial.open("r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        while chunk := answer.read1(_CHUNK):
            if file.tell() + len(chunk) > most:
                raise TooLargeError(f"{answer.url} is longer than the {most:,} bytes that were expected")
            file.write(chunk)
            seconds = time.monotonic() - since
            if seconds > patience.timeout:
                if file.tell() - there < patience.slowest * seconds:
                    raise TimeoutError("the server has become too slow")
                since, there = time.monotonic(), file.tell()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdecimal() else 0.0
