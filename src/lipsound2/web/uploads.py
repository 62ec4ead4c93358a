"""The body of a request -> a file, within bounds of size and time."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from lipsound2.errors import LipSoundError
from lipsound2.web.limits import Limits

GRACE = 10.0
"""Seconds after which an upload has to be faster than `Limits.slowest`."""


class UploadError(LipSoundError):
    """An upload that is refused or given up.

    Args:
        status: HTTP status.
        message: As in `LipSoundError`.
        hint: As in `LipSoundError`.
    """

    def __init__(self, status: int, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.status = status

    def __reduce__(self) -> tuple[type["UploadError"], tuple[int, str, str | None]]:  # type: ignore[override]
        """Keep the status when the error crosses a process boundary."""
        return type(self), (self.status, self.message, self.hint)


def declared_size(header: str | None, most: int) -> int:
    """Return the size that a request states, or the largest that is taken if it states none.

    Raises:
        UploadError: It is too large, nothing, or no number.
    """
    if header is None:
        return most
    if not (header.isascii() and header.isdigit() and len(header) < 20):
        raise UploadError(400, "the size of the upload is no number")
    if int(header) == 0:
        raise UploadError(400, "the file is empty")
    if int(header) > most:
        raise _too_large(most)
    return int(header)


async def receive(body: AsyncIterator[bytes], target: Path, limits: Limits) -> int:
    """Write a body to a file and return its size.

    Raises:
        UploadError: It is larger than may be, empty, or comes too slowly.
    """
    size, began = 0, time.monotonic()
    with target.open("xb") as file:
        while (piece := await _next(body, limits.stall)) is not None:
            size += len(piece)
            if size > limits.upload:
                raise _too_large(limits.upload)
            elapsed = time.monotonic() - began
            if elapsed > GRACE and size < elapsed * limits.slowest:
                raise UploadError(408, "the upload is too slow")
            file.write(piece)
    if not size:
        raise UploadError(400, "the file is empty")
    return size


async def read_small(body: AsyncIterator[bytes], most: int, stall: float) -> bytes:
    """Read a body of a few bytes.

    Raises:
        UploadError: It is larger, or comes too slowly.
    """
    whole = b""
    while (piece := await _next(body, stall)) is not None:
        whole += piece
        if len(whole) > most:
            raise UploadError(413, "the request is too large")
    return whole


async def _next(body: AsyncIterator[bytes], stall: float) -> bytes | None:
    try:
        return await asyncio.wait_for(anext(body, None), stall)
    except TimeoutError as error:
        raise UploadError(408, f"nothing came for {stall:g} s") from error


def _too_large(most: int) -> UploadError:
    return UploadError(413, f"the file is larger than {most / 1e6:.0f} MB", "send a shorter or smaller video")
