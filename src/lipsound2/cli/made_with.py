"""Options -> the settings that decide what a result holds, as the records of results keep them."""

from pathlib import Path

from lipsound2.inference.results import Settings, digest
from lipsound2.packs import find_pack
from lipsound2.packs.pack import SUMS_NAME, Pack
from lipsound2.recognizer.transcriber import LANGUAGE_NAME, JasperRecognizer
from lipsound2.runtime.names import is_folder
from lipsound2.runtime.weights import WEIGHTS_NAME, find_weights


def speech(pack: str, vocoder: str | None, detector: str, backend: str = "torch", voice: str | None = None) -> Settings:
    """Return what decides how speech sounds, apart from the video and the face.

    Raises:
        CheckpointError: There is no such pack, or it was changed.
    """
    found = find_pack(pack)
    chosen = vocoder or found.info.vocoder
    settings = {"pack": _pack(found), "vocoder": _model(chosen, "waveglow"), "detector": str(detector)}
    if voice is not None:
        settings["voice"] = f"{voice} ({digest(Path(voice))[:8]})" if Path(voice).is_file() else voice
    return settings if backend == "torch" else settings | {"backend": str(backend)}


def words(recognizer: str, pack: str, beam: int | None) -> Settings:
    """Return what decides which words are read, apart from the sound.

    Raises:
        CheckpointError: The pack is needed, and there is none of that name, or it was changed.
    """
    own = recognizer.split(":")[0] == JasperRecognizer.name
    name = f"{recognizer} of {_pack(find_pack(pack))}" if own else _model(recognizer, "recognizer")
    return {"recognizer": name, "beam": "default" if beam is None else beam}


def _pack(pack: Pack) -> str:
    sums = pack.folder / SUMS_NAME
    stamp = digest(sums if sums.is_file() else pack.model_folder / WEIGHTS_NAME)[:8]
    return f"{pack.info.name} {pack.info.version} ({stamp})"


def _model(name: str, part: str) -> str:
    """Return a model's name; for a folder also a digest of its weights and its language model."""
    folder = find_weights(Path(name), part) if is_folder(name) else None
    if folder is None:
        return name
    files = [folder / WEIGHTS_NAME, folder / LANGUAGE_NAME]
    return f"{Path(name).resolve().name} ({' '.join(digest(path)[:8] for path in files if path.is_file())})"
