"""A URL and a checksum -> a file in the cache, fetched once and never trusted unchecked."""

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from lipsound2.errors import DownloadError
from lipsound2.runtime.atomic import atomic_path

CACHE_VARIABLE = "LIPSOUND2_CACHE"
YUNET_URL = (
    "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
)
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


def fetch(url: str, sha256: str, timeout: float = 30.0) -> Path:
    """Return the cached file with this checksum, downloading it if needed.

    Args:
        url: Where to fetch it.
        sha256: Hexadecimal checksum it must have.
        timeout: Seconds that the server may take to answer.

    Raises:
        DownloadError: It cannot be fetched or is another file.
    """
    target = cache_folder() / f"{sha256[:16]}-{url.rsplit('/', 1)[-1]}"
    if target.is_file() and _digest(target) == sha256:
        return target
    with atomic_path(target) as temporary:
        try:
            with urllib.request.urlopen(url, timeout=timeout) as answer, temporary.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or error
            raise DownloadError(f"cannot fetch {url}: {reason}", f"fetch it by hand into {target}") from error
        if _digest(temporary) != sha256:
            raise DownloadError(f"{url} is not the expected file: its SHA-256 differs", "give a file of your own")
    return target


def cache_folder() -> Path:
    """Return the folder for downloads: LIPSOUND2_CACHE, else the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE_VARIABLE) or Path(base) / "lipsound2")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
