"""Options that several subcommands share, and what is done with them."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from lipsound2.terminal import say

if TYPE_CHECKING:
    from lipsound2.faces import Detector
    from lipsound2.recognizer.recognizer import Recognizer

R = TypeVar("R")


class DetectorName(StrEnum):
    """Face detectors that can be asked for."""

    mtcnn = "mtcnn"
    yunet = "yunet"


class Preset(StrEnum):
    """Sizes of the model."""

    small = "small"
    paper = "paper"


class Corpus(StrEnum):
    """Layouts that `prepare` reads."""

    folder = "folder"
    grid = "grid"


class Grammar(StrEnum):
    """What simulated speakers say."""

    grid = "grid"
    letters = "letters"
    digits = "digits"
    english = "english"


class Precision(StrEnum):
    """Number formats of training."""

    full = "32-true"
    bf16 = "bf16-mixed"


Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")]
Prepared = Annotated[Path, typer.Argument(help="What `lipsound2 prepare` wrote.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
DetectorOption = Annotated[DetectorName, typer.Option(help="Face detector.")]
DetectorFile = Annotated[Path | None, typer.Option(help="YuNet's ONNX file; fetched and kept if not given.")]
RecognizerName = Annotated[
    str, typer.Option("--recognizer", help="jasper (the pack's own), whisper, whisper:SIZE or the folder of a run.")
]
VocoderName = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="griffin-lim, waveglow (the pack's own), hifigan or a WaveGlow's folder; by default the pack's choice.",
    ),
]
Beam = Annotated[int, typer.Option(help="Texts that the beam search keeps; 0 reads greedily.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Epochs = Annotated[int | None, typer.Option(help="Times that each clip is seen.")]
BatchSize = Annotated[int | None, typer.Option(help="Clips a step and process.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Highest learning rate.")]
PrecisionOption = Annotated[Precision | None, typer.Option(help="Number format.")]
Devices = Annotated[int, typer.Option(help="Processes, one a GPU; under torchrun it decides.")]
Seed = Annotated[int | None, typer.Option(help="Of everything random.")]
Clips = Annotated[int | None, typer.Option(help="Train on so many clips only.")]
Speakers = Annotated[list[str] | None, typer.Option("--speaker", help="Train on this speaker only; repeatable.")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="JSON of settings, such as a run's recipe.json.")]


def exit_with(failures: int, total: int, what: str) -> None:
    """End with status 1 if some of many inputs failed."""
    if failures:
        say(f"{failures} of {total} {what} failed")
        raise typer.Exit(1)


def make_detector(name: DetectorName, file: Path | None) -> "Detector":
    """Load a face detector."""
    from lipsound2 import faces

    return faces.YuNetDetector(yunet_file(file)) if name == DetectorName.yunet else faces.MtcnnDetector()


def load_recognizer(name: str, pack: str, device: str, beam: int) -> "Recognizer":
    """Load a recogniser; a pack is looked for only if its own is asked for."""
    from lipsound2.packs import find_pack
    from lipsound2.pipeline import default_device
    from lipsound2.recognizer.beam import BeamConfig
    from lipsound2.recognizer.choose import choose
    from lipsound2.recognizer.reader import JasperRecognizer

    packed = find_pack(pack).recognizer if name.startswith(JasperRecognizer.name) else None
    place = default_device() if device == "auto" else device
    return choose(name, packed, place, BeamConfig(width=beam) if beam else None)


def yunet_file(file: Path | None) -> Path:
    """Give YuNet's file, fetched if none is given."""
    from lipsound2 import download

    return file or download.fetch(download.YUNET_URL, download.YUNET_SHA256)


def changed(
    recipe: R,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    precision: Precision | None,
    seed: int | None,
    clips: int | None,
    speakers: list[str] | None,
) -> R:
    """Put the options that were given in the place of a recipe's settings."""
    plain: Any = recipe
    train = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "precision": precision.value if precision else None,
        "seed": seed,
    }
    whole = {"clips": clips, "speakers": tuple(speakers) if speakers else None}
    return replace(plain, train=replace(plain.train, **given(train)), **given(whole))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Keep the options that were given."""
    return {name: value for name, value in options.items() if value is not None}
