"""The command `lipsound2`: each subcommand calls one typed function of the package.

Results go to stdout, progress and errors to stderr. Exit status: 0 all is done, 1 some of many
inputs failed, 2 nothing could be done, 130 interrupted.
"""

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lipsound2.errors import LipSoundError
from lipsound2.terminal import console, counting, show_error

if TYPE_CHECKING:
    from lipsound2.faces import Detector
    from lipsound2.training.runs import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Give a silent video of a talking face its voice back.",
)


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


@app.command()
def speak(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or folders of videos.", show_default=False)],
    output: Output = Path("out"),
    pack: Annotated[str, typer.Option(help="Name of a pack, or the folder of a pack or a run.")] = "grid-s1",
    face: Annotated[str, typer.Option(help="Whose lips: largest, left, right, all or a number.")] = "largest",
    list_faces: Annotated[bool, typer.Option("--list-faces", help="Only list the faces of each video.")] = False,
    formats: Annotated[str, typer.Option("--formats", "-f", help="What to write, of wav,mp4,png.")] = "wav,mp4,png",
    vocoder: Annotated[str | None, typer.Option(help="Turns mel into sound; by default the pack's choice.")] = None,
    device: Device = "auto",
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    force: Force = False,
) -> None:
    """Turn silent videos of a talking face into speech: sound, the video with it, a picture of both."""
    from lipsound2 import pipeline, speaking

    options = speaking.Options(face, tuple(formats.split(",")), force)
    jobs = speaking.find_jobs(inputs, output)
    loaded = pipeline.load(pack, vocoder, None if device == "auto" else device, _detector(detector, detector_file))
    failures = speaking.list_faces(loaded, jobs) if list_faces else speaking.speak_all(loaded, jobs, options)
    _exit_with(failures, len(jobs), "videos")


@app.command()
def prepare(
    corpus: Annotated[Corpus, typer.Argument(help="Layout of the corpus.", show_default=False)],
    source: Annotated[Path, typer.Argument(help="Its folder.", show_default=False)],
    output: Output = Path("prepared"),
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one a core.")] = 0,
    shard_size: Annotated[int, typer.Option(help="Clips a shard.")] = 100,
    max_mismatch: Annotated[float, typer.Option(help="Seconds by which sound and picture may differ.")] = 0.25,
    max_failures: Annotated[float, typer.Option(help="Share of clips that may fail without an error.")] = 0.1,
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
) -> None:
    """Turn a corpus into shards of face crops and sound; a second call goes on where the first stopped."""
    from functools import partial

    from lipsound2 import corpora, faces
    from lipsound2.data.prepare import PrepareConfig, SampleConfig
    from lipsound2.data.prepare import prepare as run

    make = partial(faces.YuNetDetector, _yunet_file(detector_file)) if detector == "yunet" else faces.MtcnnDetector
    config = PrepareConfig(SampleConfig(max_mismatch=max_mismatch), shard_size, workers)
    with counting("preparing") as update:
        summary = run(corpora.READERS[corpus.value](source), output, config, make, update)
    print(f"{output}: {summary.samples} samples, {summary.failures} failures")  # noqa: T201
    if summary.failures:
        console.print(f"the reasons are in {output / 'failures.jsonl'}")
    if summary.failures > max_failures * (summary.samples + summary.failures):
        raise typer.Exit(1)


@app.command()
def simulate(
    output: Output = Path("sim"),
    clips: Annotated[int, typer.Option(help="How many clips.")] = 500,
    speakers: Annotated[int, typer.Option(help="How many speakers.")] = 8,
    grammar: Annotated[Grammar, typer.Option(help="What they say.")] = Grammar.grid,
    text: Annotated[Path | None, typer.Option(help="Your own sentences instead, one a line.")] = None,
    like: Annotated[Path | None, typer.Option(help="A corpus whose held-out sentences are held out here too.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other people.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 256,
    difficulty: Annotated[float, typer.Option(help="0 a studio, 1 a poor camera.")] = 1.0,
    val: Annotated[float, typer.Option(help="Share of sentences held out for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of sentences held out for testing.")] = 0.1,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one a core.")] = 0,
) -> None:
    """Make a corpus of talking heads that do not exist and that anyone may have. A second call goes on."""
    from lipsound2.simulate import SimulateConfig
    from lipsound2.simulate import simulate as run

    config = SimulateConfig(clips, speakers, grammar.value, text, seed, size, difficulty, val, test)
    with counting("simulating") as update:
        report = run(config, output, workers, like, update)
    print(f"{output}: {report.made} clips made, {report.kept} kept, {len(report.failures)} failures")  # noqa: T201
    for failure in report.failures:
        console.print(f"{failure.clip}: {failure.reason}")
    _exit_with(len(report.failures), clips, "clips")


@app.command()
def pretrain(
    prepared: Prepared,
    output: Output = Path("runs/base"),
    preset: Annotated[Preset | None, typer.Option(help="Size of the model; small without a recipe.")] = None,
    recipe: RecipeFile = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    precision: PrecisionOption = None,
    seed: Seed = None,
    clips: Clips = None,
    speakers: Speakers = None,
    device: Device = "auto",
    devices: Devices = 1,
) -> None:
    """Train a model from nothing; the clips' own sound is the only label. A second call resumes."""
    from lipsound2.training import runs

    base = runs.read_recipe(recipe) if recipe else runs.pretrain_recipe(preset or Preset.small)
    wanted = _changed(base, epochs, batch_size, learning_rate, precision, seed, clips, speakers)
    if recipe and preset:
        raise typer.BadParameter("the recipe already names a model", param_hint="--preset")
    fabric = runs.make_fabric(device, devices, wanted.train.precision)
    error = runs.pretrain(prepared, output, wanted, fabric)
    print(f"{output}: best free-running error {error:.4f}")  # noqa: T201


@app.command()
def finetune(
    prepared: Prepared,
    start: Annotated[str, typer.Option("--from", help="A run's folder, or a pack.", show_default=False)],
    output: Output = Path("runs/finetuned"),
    recipe: RecipeFile = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    precision: PrecisionOption = None,
    seed: Seed = None,
    clips: Clips = None,
    speakers: Speakers = None,
    device: Device = "auto",
    devices: Devices = 1,
) -> None:
    """Train a model further on other clips, such as those of one person. A second call resumes."""
    from lipsound2.training import runs

    base = runs.read_recipe(recipe) if recipe else runs.finetune_recipe()
    wanted = _changed(base, epochs, batch_size, learning_rate, precision, seed, clips, speakers)
    fabric = runs.make_fabric(device, devices, wanted.train.precision)
    error = runs.finetune(prepared, output, start, wanted, fabric)
    print(f"{output}: best free-running error {error:.4f}")  # noqa: T201


@app.command()
def pack(
    run: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pack.", show_default=False)],
    licence: Annotated[str, typer.Option(help="SPDX identifier, such as CC-BY-4.0.", show_default=False)],
    trained_on: Annotated[str, typer.Option(help="The data and its licence.", show_default=False)],
    card: Annotated[Path, typer.Option(help="The model card, a Markdown file.", show_default=False)],
    scores: Annotated[Path | None, typer.Option(help="JSON file of figures by name.")] = None,
    version: Annotated[str, typer.Option(help="Of the pack.")] = "1",
    force: Force = False,
) -> None:
    """Make a pack of a run's best model, to keep or to give away."""
    import json

    from lipsound2 import packs

    figures = json.loads(scores.read_text(encoding="utf-8")) if scores else {}
    info = packs.PackInfo(output.name, version, licence, trained_on, scores=figures)
    made = packs.write_pack(run, output, info, card.read_text(encoding="utf-8"), force=force)
    print(f"{made.folder}: {made.size / 1e6:.1f} MB")  # noqa: T201


@app.command(name="packs")
def list_packs() -> None:
    """List the installed packs: name, size, licence, what they were trained on, scores."""
    from rich.console import Console
    from rich.table import Table

    from lipsound2 import packs

    table = Table("name", "size", "licence", "trained on", "vocoder", "scores", box=None)
    for found in packs.list_packs():
        info = found.info
        scores = ", ".join(f"{name} {value:.3g}" for name, value in info.scores.items())
        table.add_row(info.name, f"{found.size / 1e6:.1f} MB", info.licence, info.trained_on, info.vocoder, scores)
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


@app.command()
def doctor() -> None:
    """Tell what works here and what to do about the rest."""
    from lipsound2.doctor import examine

    checks = examine()
    for check in checks:
        print(f"{'ok ' if check.works else 'NO '} {check.name}: {check.detail}")  # noqa: T201
        if check.hint and not check.works:
            print(f"      hint: {check.hint}")  # noqa: T201
    if not all(check.works or check.optional for check in checks):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; an expected error is one line and a hint, exit status 2."""
    # Idle OpenMP threads that spin take the cores from those that work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except LipSoundError as error:
        show_error(error)
        sys.exit(2)
    except _InterruptedError:
        console.print("interrupted; the same command goes on where it can")
        sys.exit(130)


class _InterruptedError(BaseException):
    """Ctrl-C, under a name that the command-line library does not turn into a message of its own."""


def _interrupt(*_: object) -> None:
    raise _InterruptedError


def _exit_with(failures: int, total: int, what: str) -> None:
    """End with status 1 if some of many inputs failed."""
    if failures:
        console.print(f"{failures} of {total} {what} failed")
        raise typer.Exit(1)


def _detector(name: DetectorName, file: Path | None) -> "Detector":
    from lipsound2 import faces

    return faces.YuNetDetector(_yunet_file(file)) if name == DetectorName.yunet else faces.MtcnnDetector()


def _yunet_file(file: Path | None) -> Path:
    from lipsound2 import download

    return file or download.fetch(download.YUNET_URL, download.YUNET_SHA256)


def _changed(
    recipe: "Recipe",
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    precision: Precision | None,
    seed: int | None,
    clips: int | None,
    speakers: list[str] | None,
) -> "Recipe":
    """Put the options that were given in the place of the recipe's settings."""
    from dataclasses import replace

    train = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "precision": precision.value if precision else None,
        "seed": seed,
    }
    whole = {"clips": clips, "speakers": tuple(speakers) if speakers else None}
    return replace(recipe, train=replace(recipe.train, **_given(train)), **_given(whole))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
