"""A name -> a loaded recogniser."""

from pathlib import Path

from lipsound2.errors import CheckpointError
from lipsound2.recognizer.beam import BeamConfig
from lipsound2.recognizer.reader import JasperRecognizer, load_recognizer
from lipsound2.recognizer.recognizer import Recognizer
from lipsound2.recognizer.whisper import WhisperRecognizer
from lipsound2.weights import find_weights

BEAM = ":beam"


def choose(name: str, packed: Path | None, device: str = "cpu", beam: BeamConfig | None = None) -> Recognizer:
    """Load the recogniser that a user asked for.

    Args:
        name: `jasper`, the pack's own; a folder with a recogniser; either with `:beam` behind it, which searches
            by the default `BeamConfig`; `whisper` or `whisper:SIZE`.
        packed: Folder of the pack's recogniser, if it has one.
        device: A torch device.
        beam: How a Jasper searches; None reads greedily.

    Raises:
        CheckpointError: There is none of that name.
    """
    kind, _, size = name.partition(":")
    if kind == WhisperRecognizer.name:
        return WhisperRecognizer(size, device) if size else WhisperRecognizer(device=device)
    if name.endswith(BEAM):
        name, beam = name.removesuffix(BEAM), beam or BeamConfig()
    if name != JasperRecognizer.name and not Path(name).is_dir():
        raise CheckpointError(
            f"no recogniser and no folder {name!r}", "known: jasper, jasper:beam, whisper, whisper:SIZE"
        )
    folder = packed if name == JasperRecognizer.name else Path(name)
    if folder is None:
        raise CheckpointError(
            "the pack holds no recogniser", "train one with lipsound2 recognizer train, or give --recognizer"
        )
    return load_recognizer(find_recognizer(folder), device, beam)


def find_recognizer(folder: Path) -> Path:
    """Find the folder of a recogniser: the part of a pack, the best of a run, or the folder itself.

    Raises:
        CheckpointError: There is none.
    """
    found = find_weights(folder, "recognizer")
    if found is None:
        raise CheckpointError(f"{folder} holds no recogniser", "make one with: lipsound2 recognizer train PREPARED")
    return found
