"""Options that several subcommands share, and what is done with them."""

import math
import os
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from lipsound2.errors import ConfigError
from lipsound2.runtime.claims import Share
from lipsound2.runtime.terminal import detail, say

if TYPE_CHECKING:
    from lipsound2.faces import Detector
    from lipsound2.inference.batch import Tally
    from lipsound2.inference.pipeline import Pipeline
    from lipsound2.recognizer.base import Recognizer

R = TypeVar("R")
EPILOG = (
    "Every command also takes, anywhere: --quiet (warnings and errors only), --verbose (what is loaded, seconds), "
    "--json (results as a JSON object a line), --debug (tracebacks). "
    "Exit status: 0 all is done, 1 some of many inputs failed, 2 nothing could be done, 70 a bug, 130 interrupted."
)


class DetectorName(StrEnum):
    """Face detectors that can be asked for."""

    mtcnn = "mtcnn"
    yunet = "yunet"


class Several(StrEnum):
    """What `prepare` uses while several faces of similar size are seen."""

    leave = "leave"
    largest = "largest"
    each = "each"


class Backend(StrEnum):
    """What can run the networks."""

    torch = "torch"
    onnx = "onnx"


class Grammar(StrEnum):
    """Grammars of simulated speakers."""

    grid = "grid"
    letters = "letters"
    digits = "digits"
    english = "english"


def finite(value: float | None) -> float | None:
    """Refuse what is no number or not finite, which no range excludes.

    Raises:
        BadParameter: It is one of these.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"a finite number was expected, got {value}")
    return value


def positive(value: float | None) -> float | None:
    """Refuse 0 as well.

    Raises:
        BadParameter: It is not above 0.
    """
    if value is not None and not value > 0:
        raise typer.BadParameter(f"a number above 0 was expected, got {value}")
    return finite(value)


Output = Annotated[Path, typer.Option("--output", "-o", readable=False, help="Folder to write to.")]
OutputFile = Annotated[
    Path, typer.Option("--output", "-o", readable=False, help="Folder to write to; for one video also a file.")
]
Prepared = Annotated[Path, typer.Argument(help="What `lipsound2 prepare` wrote.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto (first GPU, else CPU), cpu, cuda, cuda:1, mps.")]
BackendName = Annotated[
    Backend, typer.Option("--backend", help="What runs the networks; onnx runs on the CPU, by onnxruntime.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads.", show_default="one a core")]
DetectorOption = Annotated[DetectorName, typer.Option(help="Face detector.")]
DetectorFile = Annotated[
    Path | None, typer.Option(help="ONNX file for --detector yunet.", show_default="fetched and kept")
]
PackName = Annotated[str, typer.Option(help="Name of a pack, or the folder of a pack or a run.")]
RecognizerName = Annotated[
    str,
    typer.Option(
        "--recognizer",
        help="jasper (the pack's own), the name of a pack, whisper, whisper:SIZE or the folder of a run.",
    ),
]
VocoderName = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="griffin-lim, waveglow (the pack's own), hifigan or a WaveGlow's folder.",
        show_default="the pack's choice",
    ),
]
Beam = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Beam width; 0 decodes greedily.",
        show_default="32 if the recogniser has a language model",
    ),
]
Face = Annotated[
    str, typer.Option(help="Whose lips: largest, left, right, a number, all (each a voice) or together (one).")
]
Track = Annotated[
    int | None,
    typer.Option("--track", min=1, help="Video track of the file.", show_default="its default, else the largest"),
]


def seconds(text: str | float) -> float:
    """Read a time as `ffmpeg -ss` takes it: seconds, or hours, minutes and seconds with colons between them.

    >>> seconds("75.5"), seconds("1:15.5"), seconds("01:00:00")
    (75.5, 75.5, 3600.0)

    Raises:
        BadParameter: It is no time.
    """
    parts = str(text).split(":")
    try:
        found = [float(part) for part in parts]
    except ValueError as error:
        raise typer.BadParameter(f"seconds or h:mm:ss were expected, got {text}") from error
    if len(parts) > 3 or not all(0 <= part < (60 if place else math.inf) for place, part in enumerate(found)):
        raise typer.BadParameter(f"seconds or h:mm:ss were expected, got {text}")
    return sum(part * 60**place for place, part in enumerate(reversed(found)))


Start = Annotated[
    float,
    typer.Option(
        "--start",
        parser=seconds,
        metavar="TIME",
        help="Where in the video to begin: seconds, or h:mm:ss.",
        show_default="its start",
    ),
]
End = Annotated[
    float | None,
    typer.Option("--end", parser=seconds, metavar="TIME", help="Where in it to end.", show_default="its end"),
]
FilmedAt = Annotated[
    float | None,
    typer.Option(
        "--fps",
        help="Frames a second at which it was filmed, if it plays too fast or too slow.",
        show_default="as it plays",
        callback=positive,
    ),
]
TableFile = Annotated[
    Path | None,
    typer.Option("--table", readable=False, help="CSV file to write a line a video to.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do only the I-th of N shares, as one of N processes or machines with one shared folder.",
        show_default="all",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster: auto (the one of this machine), local (a new one of it alone) or its address.",
        show_default="processes of this machine",
    ),
]
Workers = Annotated[int, typer.Option(min=0, help="Worker processes; 0 takes one per core.")]


def find_share(text: str | None) -> Share:
    """Return the share of the work that `--shard` asks for.

    Raises:
        ConfigError: It is none.
    """
    if text is None:
        return Share()
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard {text} is no share", "give one such as 3/16: the third of sixteen, counted from 1")
    return Share(int(number), int(count))


def exit_with(failures: int, total: int, what: str) -> None:
    """End with status 1 if some of many inputs failed."""
    if failures:
        say(f"{failures} of {total} {what} failed")
        raise typer.Exit(1)


def detector_maker(name: DetectorName, file: Path | None) -> "Callable[[], Detector]":
    """Return what loads a face detector, such as in each of several processes.

    Raises:
        ConfigError: A file was given that it does not need.
    """
    from lipsound2 import faces

    if name != DetectorName.yunet:
        refuse_idle("without --detector yunet", detector_file=file is not None)
        return faces.MtcnnDetector
    return partial(faces.YuNetDetector, yunet_file(file))


def end_with(tally: "Tally") -> None:
    """End with the exit status of a batch."""
    if tally.status:
        raise typer.Exit(tally.status)


def refuse_idle(why: str, **changed: bool) -> None:
    """Refuse options that were given and would do nothing.

    Args:
        why: They would do nothing.
        changed: Of parameters by name, whether they differ from their default.

    Raises:
        ConfigError: One does.
    """
    for name, was in changed.items():
        if was:
            raise ConfigError(f"--{name.replace('_', '-')} does nothing {why}", "leave it out")


def use_threads(count: int | None) -> None:
    """Compute with so many CPU threads from now on; best called before torch is imported."""
    if count is None:
        return
    most = 4 * (os.cpu_count() or 1)
    if count > most:
        raise ConfigError(f"{count} threads are more than this machine can use, at most {most}", "leave out --threads")
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(count)
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def load_speaker(
    pack: str,
    vocoder: str | None,
    device: str,
    detector: DetectorName,
    detector_file: Path | None,
    backend: str = "torch",
    voice: str | None = None,
) -> "Pipeline":
    """Load a pack and all that is needed to speak with it."""
    import torch

    from lipsound2.inference import pipeline

    loaded = pipeline.load(pack, vocoder, device, detector_maker(detector, detector_file)(), voice, backend)
    detail(f"pack {pack}, vocoder {loaded.vocoder.name}, detector {detector.value}")
    detail(f"backend {backend}, device {loaded.model.device}, {torch.get_num_threads()} CPU threads")
    if loaded.knows:
        say(f"{loaded.name} knows {loaded.knows}")
    return loaded


def load_recognizer(name: str, pack: str, device: str, beam: int | None, backend: str = "torch") -> "Recognizer":
    """Load a recogniser; a pack is looked for only if its own is asked for."""
    from lipsound2.export.backend import exported_folder
    from lipsound2.inference.recognizers import choose
    from lipsound2.packs import find_pack
    from lipsound2.recognizer.beam import BeamConfig
    from lipsound2.recognizer.transcriber import JasperRecognizer
    from lipsound2.runtime.devices import find_device

    own = find_pack(pack) if name.split(":")[0] == JasperRecognizer.name else None
    exported = exported_folder(own) if own and backend == Backend.onnx else None
    search = BeamConfig() if beam is None else BeamConfig(width=beam) if beam else None
    packed = own.recognizer if own else None
    reader = choose(name, packed, find_device(device), search, needs_language=beam is None, exported=exported)
    detail(f"recogniser {name}")
    return reader


def yunet_file(file: Path | None) -> Path:
    """Return YuNet's file, downloading it if none is given."""
    from lipsound2.runtime import download

    return file or download.fetch(download.YUNET_URL, download.YUNET_SHA256)
