"""Options that several subcommands share, and what is done with them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lipsound2.terminal import console

if TYPE_CHECKING:
    from lipsound2.faces import Detector


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
        console.print(f"{failures} of {total} {what} failed")
        raise typer.Exit(1)


def make_detector(name: DetectorName, file: Path | None) -> "Detector":
    """Load a face detector."""
    from lipsound2 import faces

    return faces.YuNetDetector(yunet_file(file)) if name == DetectorName.yunet else faces.MtcnnDetector()


def yunet_file(file: Path | None) -> Path:
    """Give YuNet's file, fetched if none is given."""
    from lipsound2 import download

    return file or download.fetch(download.YUNET_URL, download.YUNET_SHA256)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Keep the options that were given."""
    return {name: value for name, value in options.items() if value is not None}
