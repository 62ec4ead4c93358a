"""`lipsound2 recipe defaults` and `recipe show`: settings of training runs as JSON."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import EPILOG
from lipsound2.runtime.terminal import result, say

app = typer.Typer(no_args_is_help=True, help="Show the settings of a training run.")


@app.command(epilog=EPILOG)
def defaults(
    kind: Annotated[
        str,
        typer.Argument(
            help="pretrain, finetune, vocoder, vocoder-finetune, recognizer or recognizer-finetune.",
        ),
    ] = "pretrain",
    preset: Annotated[
        str | None, typer.Option(help="Size of the model, as that command takes it.", show_default="small")
    ] = None,
) -> None:
    """Print the default settings of a training command as JSON, whose keys --set takes with dots."""
    from lipsound2.settings import plain
    from lipsound2.training.recipes.defaults import default_recipe

    settings = plain(default_recipe(kind, preset))
    result(json.dumps(settings, indent=2), settings)


@app.command(epilog=EPILOG)
def show(
    recipe: Annotated[Path, typer.Argument(help="A recipe, or the folder of a run.", show_default=False)],
    kind: Annotated[
        str | None,
        typer.Option("--for", help="The training command it is for.", show_default="the first that it fits"),
    ] = None,
) -> None:
    """Print all settings of a recipe or a run as JSON on stdout, and on stderr what differs from the defaults."""
    from lipsound2.settings import changes, plain
    from lipsound2.training.recipes.defaults import choose_recipe, default_recipe, guess_kind, with_model

    found = kind or guess_kind(recipe)
    settings = choose_recipe(found, file=recipe)
    differs = changes(with_model(default_recipe(found), settings), settings)
    result(json.dumps(plain(settings), indent=2), plain(settings))
    say(f"{recipe} for {found}: {len(differs)} settings differ from the defaults")
    for change in differs:
        say(f"  {change}")
