"""`lipsound2 pretrain`, `finetune`, `vocoder train`, `vocoder finetune`, `recognizer train` and `recognizer finetune`.

All take the options of `Daily`. What else can be set comes from a recipe (`--recipe`) or one by one (`--set`).
"""

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from lipsound2.cli.options import EPILOG, Device, Output, Prepared, positive
from lipsound2.runtime.terminal import counting, result

if TYPE_CHECKING:
    import lightning_fabric

    from lipsound2.training.run import Recipe, Sources

vocoder = typer.Typer(no_args_is_help=True, help="Train a vocoder (mel to waveform).")
recognizer = typer.Typer(no_args_is_help=True, help="Train a recogniser (waveform to text).")

OPTIONS = {
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "workers": "train.workers",
    "seed": "train.seed",
    "clips": "clips",
    "speakers": "speakers",
}
"""Options that are settings, and their keys in a recipe."""


class Preset(StrEnum):
    """Sizes of the model."""

    small = "small"
    paper = "paper"


class VocoderPreset(StrEnum):
    """Sizes of WaveGlow."""

    small = "small"
    medium = "medium"
    nvidia = "nvidia"


class RecognizerPreset(StrEnum):
    """Sizes of Jasper, and QuartzNet's."""

    small = "small"
    jasper_5x3 = "jasper_5x3"
    jasper_10x5dr = "jasper_10x5dr"
    quartznet_15x5 = "quartznet_15x5"


Start = Annotated[str, typer.Option("--from", help="A run's folder, or a pack.", show_default=False)]
Generated = Annotated[
    Path | None, typer.Option(help="Folder of what is generated.", show_default="`generated` in the output")
]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan", help="Train nothing: say the memory, updates, time and disk that it takes, from a measured minute."
    ),
]
PRESET_HELP = "Size of the model; small if nothing else names one."


@dataclass(frozen=True)
class Daily:
    """The options that every training command takes."""

    prepared: Prepared
    output: Output
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="JSON of settings, or a run's folder, whose settings are taken.")
    ] = None
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One setting, such as train.clip=0.5; repeatable. `lipsound2 recipe defaults` lists them.",
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs.", show_default="the recipe's")] = None
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Batch size per process.", show_default="the recipe's")
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option("--lr", callback=positive, help="Peak learning rate.", show_default="the recipe's"),
    ] = None
    clips: Annotated[
        int | None,
        typer.Option(min=1, help="Number of training clips, spread evenly.", show_default="the recipe's, else all"),
    ] = None
    speakers: Annotated[
        list[str] | None,
        typer.Option(
            "--speaker", help="Train on this speaker only; repeatable.", show_default="the recipe's, else all"
        ),
    ] = None
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed.", show_default="the recipe's")] = None
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that load data.", show_default="the recipe's")
    ] = None
    device: Device = "auto"
    devices: Annotated[int, typer.Option(min=1, help="Processes, one a GPU; under torchrun it decides.")] = 1

    def settings(self) -> dict[str, Any]:
        """Return the settings that were given as options, by their keys."""
        given = {key: getattr(self, name) for name, key in OPTIONS.items()}
        return {key: value for key, value in given.items() if value is not None}


def trains(output: str, **defaults: int | float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take the options of `Daily`, which its function gets as its first argument.

    Args:
        output: Where it writes by default.
        defaults: What its settings are by default, as the help says it.
    """

    def add_options(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(Daily, include_extras=True)
        hints |= {name: _told(hints[name], f"the recipe's, else {value:g}") for name, value in defaults.items()}
        values = {each.name: each.default for each in fields(Daily)} | {"output": Path(output)}
        own = [*inspect.signature(function, eval_str=True).parameters.values()][1:]

        def command(**options: Any) -> None:
            function(Daily(**{name: options.pop(name) for name in values}), **options)

        daily = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if default is MISSING else default,
                annotation=hints[name],
            )
            for name, default in values.items()
        ]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        every = [*daily[:2], *own, *daily[2:]]
        command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return add_options


def _told(hint: Any, default: str) -> Any:
    """Let the help of an option say what its default is."""
    kind, option = get_args(hint)
    option = copy(option)
    option.show_default = default
    return Annotated[kind, option]


@trains("runs/base", epochs=100, batch_size=16, learning_rate=1e-3)
def pretrain(
    daily: Daily, preset: Annotated[Preset | None, typer.Option(help=PRESET_HELP)] = None, plan: Plan = False
) -> None:
    """Train a model from scratch, self-supervised: the clips' own audio is the label. A second call resumes."""
    (_plan if plan else _train)("pretrain", daily, preset)


@trains("runs/finetuned", epochs=50, batch_size=16, learning_rate=3e-4)
def finetune(daily: Daily, start: Start, plan: Plan = False) -> None:
    """Fine-tune a model on other clips, such as those of one speaker. A second call resumes."""
    (_plan if plan else _train)("finetune", daily, start=start)


@vocoder.command("train", epilog=EPILOG)
@trains("runs/waveglow", epochs=500, batch_size=12, learning_rate=1e-3)
def train_vocoder(daily: Daily, preset: Annotated[VocoderPreset | None, typer.Option(help=PRESET_HELP)] = None) -> None:
    """Train a WaveGlow from scratch on the audio of prepared clips. A second call resumes."""
    _train("vocoder", daily, preset)


@vocoder.command("finetune", epilog=EPILOG)
@trains("runs/waveglow-finetuned", epochs=100, batch_size=12, learning_rate=1e-4)
def finetune_vocoder(
    daily: Daily,
    start: Start,
    mels_of: Annotated[
        str | None, typer.Option("--mels-of", help="Train also on ground-truth-aligned mels of this pack or run.")
    ] = None,
    generated: Generated = None,
) -> None:
    """Fine-tune a WaveGlow on reference mels, and on generated ones if asked for. A second call resumes."""
    from lipsound2.errors import ConfigError
    from lipsound2.training.recipes.vocoder import VocoderRecipe, mels_for
    from lipsound2.training.run import Sources

    if generated and not mels_of:
        raise ConfigError("--generated does nothing without --mels-of", "leave it out")

    def sources(recipe: "Recipe", fabric: "lightning_fabric.Fabric") -> Sources:
        if mels_of is None:
            return Sources(daily.prepared)
        folder = generated or daily.output / "generated"
        assert isinstance(recipe, VocoderRecipe)
        with counting("generating mels") as progress:
            mels_for(start, mels_of, daily.prepared, folder, recipe, str(fabric.device), progress)
        return Sources(daily.prepared, folder)

    _train("vocoder-finetune", daily, start=start, sources=sources)


@recognizer.command("train", epilog=EPILOG)
@trains("runs/recognizer", epochs=100, batch_size=16, learning_rate=0.01)
def train_recognizer(
    daily: Daily, preset: Annotated[RecognizerPreset | None, typer.Option(help=PRESET_HELP)] = None
) -> None:
    """Train a recogniser from scratch on the audio and transcripts of prepared clips. A second call resumes."""
    _train("recognizer", daily, preset)


@recognizer.command("finetune", epilog=EPILOG)
@trains("runs/recognizer-finetuned", epochs=30, batch_size=16, learning_rate=3e-3)
def finetune_recognizer(
    daily: Daily,
    pack: Annotated[str, typer.Option(help="Pack or run whose generated speech is learned.", show_default=False)],
    start: Start,
    generated: Generated = None,
    more: Annotated[
        list[Path] | None,
        typer.Option("--speech", help="More speech with transcripts to train on, without video; repeatable."),
    ] = None,
    voice: Annotated[str | None, typer.Option("--vocoder", help="Vocoder.", show_default="the pack's choice")] = None,
) -> None:
    """Fine-tune a recogniser on the speech that a pack generates from silent clips. A second call resumes."""
    from lipsound2.training.generated import generate_speech
    from lipsound2.training.recipes.asr import AsrRecipe
    from lipsound2.training.run import Sources

    def sources(recipe: "Recipe", fabric: "lightning_fabric.Fabric") -> Sources:
        folder = generated or daily.output / "generated"
        assert isinstance(recipe, AsrRecipe)
        chosen = recipe.speakers, recipe.clips
        with counting("generating speech") as progress:
            generate_speech(daily.prepared, pack, folder, *chosen, voice, str(fabric.device), progress)
        return Sources(daily.prepared, folder, tuple(more or ()))

    _train("recognizer-finetune", daily, start=start, sources=sources)


def _train(
    kind: str,
    daily: Daily,
    preset: StrEnum | None = None,
    start: str | None = None,
    sources: "Callable[[Recipe, lightning_fabric.Fabric], Sources] | None" = None,
) -> None:
    """Choose the settings, train and print the best score."""
    from lipsound2.training.recipes.defaults import KINDS
    from lipsound2.training.run import make_fabric, run

    recipe = _recipe(kind, daily, preset)
    fabric = make_fabric(daily.device, daily.devices, recipe.train.precision, recipe.train.strategy)
    best = run(recipe, sources(recipe, fabric) if sources else daily.prepared, daily.output, start, fabric)
    if fabric.is_global_zero:
        measure, written = KINDS[kind].measure, format(best, KINDS[kind].format)
        told = {"output": str(daily.output), "best": best, "measure": measure}
        result(f"{daily.output}: best {measure} {written}", told)


def _plan(kind: str, daily: Daily, preset: StrEnum | None = None, start: str | None = None) -> None:
    """Choose the settings, measure a minute of the training and print what all of it takes."""
    from dataclasses import asdict

    from lipsound2.training import forecast
    from lipsound2.training.recipes.lip2mel import Lip2MelRecipe
    from lipsound2.training.run import Sources, make_fabric

    recipe = _recipe(kind, daily, preset)
    assert isinstance(recipe, Lip2MelRecipe)
    fabric = make_fabric(daily.device, 1, recipe.train.precision)
    plan = forecast.forecast(recipe, Sources(daily.prepared), daily.output, start, fabric, daily.devices)
    result(forecast.to_table(plan, recipe.train, daily.output), {"output": str(daily.output), **asdict(plan)})


def _recipe(kind: str, daily: Daily, preset: StrEnum | None) -> "Recipe":
    from lipsound2.training.recipes.defaults import choose_recipe

    named = preset.value if preset else None
    return choose_recipe(kind, named, daily.recipe, daily.assignments or (), daily.settings())
