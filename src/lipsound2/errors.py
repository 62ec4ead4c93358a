"""Errors for users: one line and, where there is one, a hint.

`guard` is the one place that decides what counts as an error of an input.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 200
"""Most characters that a message quotes from a library."""
LONGEST_LINE = 490
"""Most characters of a message."""
REPORT = "this is a bug in LipSound2: please report it with what --debug prints"


class LipSoundError(Exception):
    """An error of one line, with a hint.

    Args:
        message: One line: what, expected, got.
        hint: One line: what the user can do about it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = _one_line(message)
        self.hint = hint and _one_line(hint)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[type["LipSoundError"], tuple[str, str | None]]:
        """Keep the hint when the error crosses a process boundary."""
        return type(self), (self.message, self.hint)


def _one_line(text: str) -> str:
    """Join the lines of a library's message, and truncate it."""
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."


class MediaError(LipSoundError):
    """A video or audio file that cannot be read or written."""


class FaceError(LipSoundError):
    """A video in which no usable face was found."""


class DataError(LipSoundError):
    """A corpus, a shard or an index that is not what it should be."""


class CheckpointError(LipSoundError):
    """A run, a checkpoint or a pack that cannot be loaded."""


class ConfigError(LipSoundError):
    """Settings that contradict each other."""


class TrainingError(LipSoundError):
    """A training run that cannot go on."""


class MissingExtraError(LipSoundError):
    """An optional package that a feature needs is not installed."""


class StorageError(LipSoundError):
    """The file system refused to write."""


class DownloadError(LipSoundError):
    """A file that cannot be fetched."""


class InternalError(LipSoundError):
    """A bug of ours; what raised it is its cause."""


_DECODERS = (
    *("av", "cv2", "onnxruntime", "soundfile", "tarfile", "zipfile", "zlib", "safetensors", "safetensors_rust"),
    *("aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "s3fs"),
)
"""Packages that read files; their exceptions are errors of the file."""


@contextmanager
def guard(source: Path | str) -> Iterator[None]:
    """Turn any exception over one input into a `LipSoundError` that names it.

    Commands with many inputs (speak, read, prepare, evaluate, simulate, plot) process each of them in such a
    block, so that one bad input does not affect the others.

    Args:
        source: The input.

    Raises:
        LipSoundError: As it was raised; a `FaceError` with the input's name.
        MediaError: In place of an exception of the system, or of a package that decodes files.
        InternalError: In place of any other exception, which is a bug.
    """
    try:
        yield
    except FaceError as error:
        if str(source) in error.message:
            raise
        raise FaceError(f"{source}: {error.message}", error.hint) from error
    except LipSoundError:
        raise
    except Exception as error:  # the one place where any error is caught; it never hides one
        raise explain(error, source) from error


def explain(error: Exception, source: Path | str) -> LipSoundError:
    """Return the error of an input for an exception that it raised."""
    if isinstance(error, LipSoundError):
        return error
    words = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    reason = words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."
    if isinstance(error, MemoryError) or _out_of_memory(error):
        return MediaError(f"{source} needs more memory than there is", "close other programs, or cut it into pieces")
    if isinstance(error, PermissionError):
        return MediaError(f"{source} may not be read ({reason})", "change its permissions, or copy it elsewhere")
    if isinstance(error, OSError | EOFError | UnicodeError) or _is_decoders(error):
        return MediaError(f"{source} cannot be read ({reason})", "it may be damaged; try another copy")
    return InternalError(f"{source}: internal error ({type(error).__name__}: {reason})", REPORT)


def _is_decoders(error: Exception) -> bool:
    """Return whether an exception comes from a package that decodes files."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    # Compiled modules have a file name relative to where packages are installed, and no module name.
    module = trace.tb_frame.f_globals.get("__name__") or trace.tb_frame.f_code.co_filename if trace else ""
    return any(re.split(r"[./]", name)[0] in _DECODERS for name in (type(error).__module__, module))


def _out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    # On the CPU torch has no class of its own for it.
    refused = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return refused or (torch is not None and isinstance(error, torch.OutOfMemoryError))
