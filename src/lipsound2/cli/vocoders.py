"""`lipsound2 vocoder train` and `finetune`."""

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

app = typer.Typer(no_args_is_help=True, help="Train a vocoder (mel to waveform).")


class VocoderPreset(StrEnum):
    """Sizes of WaveGlow."""

    small = "small"
    nvidia = "nvidia"


@app.command(epilog=EPILOG)
def train(
    prepared: Prepared,
    output: Output = Path("runs/waveglow"),
    preset: Annotated[VocoderPreset | None, typer.Option(help="Size of the model; small without a recipe.")] = None,
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
    """Train a WaveGlow from scratch on the audio of prepared clips. A second call resumes."""
    from lipsound2.training import vocoder_runs
    from lipsound2.training.runs import make_fabric

    if recipe and preset:
        raise typer.BadParameter("the recipe already names a model", param_hint="--preset")
    base = (
        vocoder_runs.read_vocoder_recipe(recipe)
        if recipe
        else vocoder_runs.vocoder_recipe(preset or VocoderPreset.small)
    )
    wanted = changed(base, epochs, batch_size, learning_rate, precision, seed, clips, speakers)
    fabric = make_fabric(device, devices, wanted.train.precision)
    loss = vocoder_runs.train_vocoder(prepared, output, wanted, fabric)
    if fabric.is_global_zero:
        told = {"output": str(output), "best": loss, "measure": "loss"}
        result(f"{output}: best loss {loss:.4f}", told)


@app.command(epilog=EPILOG)
def finetune(
    prepared: Prepared,
    start: Annotated[
        str, typer.Option("--from", help="Folder of a WaveGlow or of its run, or a pack.", show_default=False)
    ],
    output: Output = Path("runs/waveglow-finetuned"),
    mels_of: Annotated[
        str | None, typer.Option("--mels-of", help="Train also on ground-truth-aligned mels of this pack or run.")
    ] = None,
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
    """Fine-tune a WaveGlow on reference mels, and on generated ones if asked for. A second call resumes."""
    from lipsound2.training import vocoder_runs
    from lipsound2.training.runs import make_fabric

    base = vocoder_runs.read_vocoder_recipe(recipe) if recipe else vocoder_runs.finetune_vocoder_recipe()
    wanted = changed(base, epochs, batch_size, learning_rate, precision, seed, clips, speakers)
    fabric = make_fabric(device, devices, wanted.train.precision)
    mels = None
    if mels_of is not None:
        with counting("making mels") as progress:
            mels = vocoder_runs.mels_of(mels_of, prepared, start, wanted, fabric.device, progress)
    loss = vocoder_runs.finetune_vocoder(prepared, output, start, wanted, fabric, mels)
    if fabric.is_global_zero:
        told = {"output": str(output), "best": loss, "measure": "loss"}
        result(f"{output}: best loss {loss:.4f}", told)
