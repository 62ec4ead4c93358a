"""`lipsound2 pretrain` and `finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import (
    BatchSize,
    Clips,
    Device,
    Devices,
    Epochs,
    Output,
    PrecisionOption,
    Prepared,
    Preset,
    Rate,
    RecipeFile,
    Seed,
    Speakers,
    changed,
)
from lipsound2.runtime.terminal import result


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
    """Train a model from scratch, self-supervised: the clips' own audio is the label. A second call resumes."""
    from lipsound2.training import runs

    base = runs.read_recipe(recipe) if recipe else runs.pretrain_recipe(preset or Preset.small)
    wanted = changed(base, epochs, batch_size, learning_rate, precision, seed, clips, speakers)
    if recipe and preset:
        raise typer.BadParameter("the recipe already names a model", param_hint="--preset")
    fabric = runs.make_fabric(device, devices, wanted.train.precision)
    error = runs.pretrain(prepared, output, wanted, fabric)
    if fabric.is_global_zero:
        result(
            f"{output}: best free-running error {error:.4f}",
            {"output": str(output), "best": error, "measure": "free-running error"},
        )


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
    """Fine-tune a model on other clips, such as those of one speaker. A second call resumes."""
    from lipsound2.training import runs

    base = runs.read_recipe(recipe) if recipe else runs.finetune_recipe()
    wanted = changed(base, epochs, batch_size, learning_rate, precision, seed, clips, speakers)
    fabric = runs.make_fabric(device, devices, wanted.train.precision)
    error = runs.finetune(prepared, output, start, wanted, fabric)
    if fabric.is_global_zero:
        result(
            f"{output}: best free-running error {error:.4f}",
            {"output": str(output), "best": error, "measure": "free-running error"},
        )
