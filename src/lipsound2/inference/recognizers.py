"""A name -> a loaded recogniser."""

from pathlib import Path

from lipsound2.errors import CheckpointError
from lipsound2.export.backend import OnnxJasper
from lipsound2.packs import find_pack, list_packs
from lipsound2.recognizer.base import Recognizer
from lipsound2.recognizer.beam import BeamConfig
from lipsound2.recognizer.ngram import read_arpa
from lipsound2.recognizer.transcriber import LANGUAGE_NAME, JasperRecognizer, load_recognizer
from lipsound2.recognizer.whisper import WhisperRecognizer
from lipsound2.runtime.names import is_folder
from lipsound2.runtime.weights import find_weights

BEAM = ":beam"


def choose(
    name: str,
    packed: Path | None,
    device: str = "cpu",
    beam: BeamConfig | None = None,
    needs_language: bool = False,
    exported: Path | None = None,
) -> Recognizer:
    """Load the recogniser that a user asked for.

    Args:
        name: `jasper`, the pack's own; the name of another pack; a folder with a recogniser; each of these with
            `:beam` behind it, which searches by the default `BeamConfig`; `whisper` or `whisper:SIZE`.
        packed: Folder of the pack's recogniser, if it has one.
        device: A torch device.
        beam: How a Jasper searches; None reads greedily.
        needs_language: Whether to search only where a language model lies beside the recogniser.
        exported: Folder of graphs that take the place of the pack's own recogniser.

    Raises:
        CheckpointError: There is none of that name.
    """
    kind, _, size = name.partition(":")
    if kind == WhisperRecognizer.name:
        return WhisperRecognizer(size, device) if size else WhisperRecognizer(device=device)
    if name.endswith(BEAM):
        name, beam = name.removesuffix(BEAM), beam or BeamConfig()
    if name == JasperRecognizer.name and exported:
        return _of_export(exported, beam, needs_language)
    folder = packed if name == JasperRecognizer.name else Path(name) if is_folder(name) else _of_pack(name)
    if folder is None:
        raise CheckpointError(
            "the pack holds no recogniser", "train one with lipsound2 recognizer train, or give --recognizer"
        )
    found = find_recognizer(folder)
    return load_recognizer(found, device, _fitting(found, beam, needs_language))


def _of_export(folder: Path, beam: BeamConfig | None, needs_language: bool) -> Recognizer:
    beam = _fitting(folder, beam, needs_language)
    path = folder / LANGUAGE_NAME
    return JasperRecognizer(OnnxJasper(folder), read_arpa(path) if beam and path.is_file() else None, beam)


def _fitting(folder: Path, beam: BeamConfig | None, needs_language: bool) -> BeamConfig | None:
    return None if needs_language and not (folder / LANGUAGE_NAME).is_file() else beam


def _of_pack(name: str) -> Path | None:
    installed = {pack.info.name for pack in list_packs()}
    if name not in installed:
        known = ", ".join(("jasper", "jasper:beam", "whisper", "whisper:SIZE", *sorted(installed)))
        raise CheckpointError(f"no recogniser and no folder {name!r}", f"known: {known}")
    return find_pack(name).recognizer


def find_recognizer(folder: Path) -> Path:
    """Find the folder of a recogniser: the part of a pack, the best of a run, or the folder itself.

    Raises:
        CheckpointError: There is none.
    """
    found = find_weights(folder, "recognizer")
    if found is None:
        raise CheckpointError(f"{folder} holds no recogniser", "make one with: lipsound2 recognizer train PREPARED")
    return found
