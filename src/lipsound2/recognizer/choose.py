"""A name -> a loaded recogniser."""

from pathlib import Path

from lipsound2.errors import CheckpointError
from lipsound2.recognizer.beam import BeamConfig
from lipsound2.recognizer.reader import JasperRecognizer, load_recognizer
from lipsound2.recognizer.recognizer import Recognizer
from lipsound2.recognizer.whisper import WhisperRecognizer


def choose(name: str, packed: Path | None, device: str = "cpu", beam: BeamConfig | None = None) -> Recognizer:
    """Load the recogniser that a user asked for.

    Args:
        name: `jasper`, the pack's own; `whisper` or `whisper:SIZE`; or a folder with a recogniser.
        packed: Folder of the pack's recogniser, if it has one.
        device: A torch device.
        beam: How a Jasper searches; None reads greedily.

    Raises:
        CheckpointError: There is none of that name.
    """
    kind, _, size = name.partition(":")
    if kind == WhisperRecognizer.name:
        return WhisperRecognizer(size, device) if size else WhisperRecognizer(device=device)
    if name != JasperRecognizer.name and not Path(name).is_dir():
        raise CheckpointError(f"no recogniser and no folder {name!r}", "known: jasper, whisper, whisper:SIZE")
    folder = packed if name == JasperRecognizer.name else Path(name)
    if folder is None:
        raise CheckpointError(
            "the pack holds no recogniser", "train one with lipsound2 recognizer train, or give --recognizer"
        )
    return load_recognizer(folder, device, beam)
