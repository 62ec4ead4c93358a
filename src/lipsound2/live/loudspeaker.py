"""Sound as it comes -> a loudspeaker, a WAV file that grows, or standard output."""

import importlib
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from lipsound2.errors import ConfigError, MissingExtraError, StorageError
from lipsound2.runtime.atomic import storing

Hear = Callable[[Float32[np.ndarray, " samples"], float], None]


@contextmanager
def opened(output: str | None, sample_rate: int, force: bool = False) -> Iterator[Hear]:
    """Yield what is given each piece of sound.

    Args:
        output: A WAV file, whose length in its head is right at any moment; `-` is standard output; None is the
            loudspeaker.
        sample_rate: In Hz.
        force: Whether to overwrite a file.

    Raises:
        StorageError: The file exists, or cannot be written.
        MissingExtraError: There is nothing here that plays sound.
    """
    if output is None:
        with _playing(sample_rate) as hear:
            yield hear
    elif output == "-":
        yield _piped
    else:
        with _growing(Path(output), sample_rate, force) as hear:
            yield hear


def to_bytes(samples: Float32[np.ndarray, " samples"]) -> bytes:
    """Return samples of 16 bits, little-endian."""
    return np.round(samples * 32767).astype("<i2").tobytes()


def _piped(samples: Float32[np.ndarray, " samples"], _: float) -> None:
    sys.stdout.buffer.write(to_bytes(samples))
    sys.stdout.buffer.flush()


@contextmanager
def _growing(path: Path, sample_rate: int, force: bool) -> Iterator[Hear]:
    if path.suffix.lower() != ".wav":
        raise ConfigError(f"{path}: a WAV file or - was expected", "name it something.wav")
    if path.exists() and not force:
        raise StorageError(f"{path} exists", "overwrite it with --force or choose another name")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = path.open("wb", buffering=0)
    with raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)

        def hear(samples: Float32[np.ndarray, " samples"], _: float) -> None:
            with storing(path):
                file.writeframes(to_bytes(samples))

        yield hear


@contextmanager
def _playing(sample_rate: int) -> Iterator[Hear]:
    try:
        device: Any = importlib.import_module("sounddevice")
    except (ModuleNotFoundError, OSError) as error:
        raise MissingExtraError(
            f"nothing here plays sound ({error})", 'pip install "lipsound2[live]", or write to a file with -o'
        ) from error
    waiting = Waiting()
    try:
        stream = device.RawOutputStream(
            sample_rate, channels=1, dtype="int16", latency="low", callback=lambda out, *_: waiting.fill(out)
        )
    except device.PortAudioError as error:
        raise ConfigError(f"the loudspeaker cannot be opened: {error}", "write to a file with -o") from error
    with stream:
        yield lambda samples, _: waiting.add(to_bytes(samples))
        while waiting:
            time.sleep(0.01)


class Waiting:
    """Sound that waits to be played, so that nobody who computes has to."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many bytes wait."""
        return len(self._held)

    def add(self, sound: bytes) -> None:
        """Let sound wait behind what waits."""
        with self._lock:
            self._held += sound

    def fill(self, out: Any) -> None:
        """Move as many bytes as fit into a buffer; what is missing is silence."""
        with self._lock:
            there = min(len(out), len(self._held))
            out[:] = bytes(self._held[:there]) + bytes(len(out) - there)
            del self._held[:there]
