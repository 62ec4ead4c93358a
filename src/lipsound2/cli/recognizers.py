"""`lipsound2 recognizer train` and `finetune`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import (
    EPILOG,
    BatchSize,
    Clips,
    Device,
    Devices,
    Epochs,
    Output,
    PrecisionOption,
    Prepared,
    Rate,
    RecipeFile,
    Seed,
    Speakers,
    changed,
)
from lipsound2.runtime.terminal import counting, result

app = typer.Typer(no_args_is_help=True, help="Train a recogniser (waveform to text).")


class RecognizerPreset(StrEnum):
    """Sizes of Jasper, and QuartzNet's."""

    small = "small"
    jasper_5x3 = "jasper_5x3"
    jasper_10x5dr = "jasper_10x5dr"
    quartznet_15x5 = "quartznet_15x5"


@app.command(epilog=EPILOG)
def train(
    prepared: Prepared,
    output: Output = Path("runs/recognizer"),
    preset: Annotated[RecognizerPreset | None, typer.Option(help="Size of the model; small without a recipe.")] = None,
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
    """Train a recogniser from scratch on the audio and transcripts of prepared clips. A second call resumes."""
    from lipsound2.training import recognizer_runs
    from lipsound2.training.runs import make_fabric

    if recipe and preset:
        raise typer.BadParameter("the recipe already names a model", param_hint="--preset")
    small = RecognizerPreset.small
    base = recognizer_runs.read_recipe(recipe) if recipe else recognizer_runs.train_recipe(preset or small)
    wanted = changed(base, epochs, batch_size, learning_rate, precision, seed, clips, speakers)
    fabric = make_fabric(device, devices, wanted.train.precision)
    error = recognizer_runs.train_recognizer(prepared, output, wanted, fabric)
    if fabric.is_global_zero:
        result(
            f"{output}: best word error rate {error:.1%}",
            {"output": str(output), "best": error, "measure": "word error rate"},
        )


@app.command(epilog=EPILOG)
def finetune(
    prepared: Prepared,
    pack: Annotated[str, typer.Option(help="Pack or run whose generated speech is learned.", show_default=False)],
    start: Annotated[
        str, typer.Option("--from", help="Folder of a recogniser or its run, or a pack.", show_default=False)
    ],
    output: Output = Path("runs/recognizer-finetuned"),
    generated: Annotated[
        Path | None, typer.Option(help="Folder of the generated speech; by default below the output.")
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Option("--speech", help="More speech with transcripts to train on, without video; repeatable."),
    ] = None,
    vocoder: Annotated[str | None, typer.Option(help="Vocoder; by default the pack's.")] = None,
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
    """Fine-tune a recogniser on speech that a pack generates from silent clips. A second call resumes."""
    from lipsound2.training import cascade, recognizer_runs
    from lipsound2.training.runs import make_fabric

    base = recognizer_runs.read_recipe(recipe) if recipe else recognizer_runs.finetune_recipe()
    wanted = changed(base, epochs, batch_size, learning_rate, precision, seed, clips, speakers)
    fabric = make_fabric(device, devices, wanted.train.precision)
    speech = generated or output / "generated"
    with counting("speaking") as progress:
        cascade.generate_speech(
            prepared, pack, speech, wanted.speakers, wanted.clips, vocoder, str(fabric.device), progress
        )
    error = recognizer_runs.finetune_recognizer(prepared, speech, output, start, wanted, fabric, more or ())
    if fabric.is_global_zero:
        result(
            f"{output}: best word error rate on generated speech {error:.1%}",
            {"output": str(output), "best": error, "measure": "word error rate on generated speech"},
        )
