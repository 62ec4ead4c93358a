"""`lipsound2 pack` and `packs`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lipsound2.cli.options import EPILOG, Force
from lipsound2.runtime.terminal import manner, result

app = typer.Typer(invoke_without_command=True, help="List the installed packs, add or remove one.", epilog=EPILOG)

if TYPE_CHECKING:
    Context = typer.Context
else:
    Context = typer.Context.__bases__[0]  # what a callback is called with, wherever this version of typer keeps it


def pack(
    run: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pack.", show_default=False)],
    licence: Annotated[str, typer.Option(help="SPDX identifier, such as CC-BY-4.0.", show_default=False)],
    trained_on: Annotated[str, typer.Option(help="The data and its licence.", show_default=False)],
    card: Annotated[Path, typer.Option(help="The model card, a Markdown file.", show_default=False)],
    scores: Annotated[Path | None, typer.Option(help="JSON file of figures by name.")] = None,
    vocoder: Annotated[str, typer.Option(help="Default vocoder.")] = "griffin-lim",
    waveglow: Annotated[Path | None, typer.Option(help="Run of a WaveGlow to include.")] = None,
    recognizer: Annotated[Path | None, typer.Option(help="Run of a recogniser to include.")] = None,
    familiar_with: Annotated[
        Path | None,
        typer.Option(
            help="Prepared training data, which tells unfamiliar faces apart and gives the voices their names."
        ),
    ] = None,
    knows: Annotated[str, typer.Option(help="Speakers and vocabulary that it was trained on.")] = "",
    version: Annotated[str, typer.Option(help="Of the pack.")] = "1",
    force: Force = False,
) -> None:
    """Make a pack from the best checkpoints of training runs."""
    from lipsound2.packs import PackInfo, write_pack
    from lipsound2.training.familiarity import measure_run

    figures = json.loads(scores.read_text(encoding="utf-8")) if scores else {}
    info = PackInfo(output.name, version, licence, trained_on, vocoder, figures, knows)
    parts = {"model": run, "waveglow": waveglow, "recognizer": recognizer}
    runs = {part: folder for part, folder in parts.items() if folder}
    measure, voices = measure_run(run, familiar_with) if familiar_with else (None, None)
    text = card.read_text(encoding="utf-8")
    made = write_pack(runs, output, info, text, force=force, familiarity=measure, voices=voices)
    result(f"{made.folder}: {made.size / 1e6:.1f} MB", {"output": str(made.folder), "bytes": made.size})


@app.command(epilog=EPILOG)
def add(
    source: Annotated[str, typer.Argument(help="Folder of a pack or zip archive of one: a path or a URL.")],
    sha256: Annotated[str | None, typer.Option(help="SHA-256 that its SHA256SUMS must have.")] = None,
    max_gb: Annotated[float, typer.Option(min=0.0, help="Most gigabytes to download.")] = 32.0,
    force: Force = False,
) -> None:
    """Install a pack under its name, verified; a download goes on where it broke off."""
    from lipsound2.packs.add import add_pack

    added = add_pack(source, sha256, force, largest=max_gb)
    result(f"{added.info.name}: {added.folder}", {"name": added.info.name, "folder": str(added.folder)})


@app.command(epilog=EPILOG)
def remove(name: Annotated[str, typer.Argument(help="Of a pack that was added.")]) -> None:
    """Remove a pack that was added."""
    from lipsound2.packs.add import remove_pack

    folder = remove_pack(name)
    result(f"removed {folder}", {"name": name, "folder": str(folder)})


@app.callback()
def packs(context: Context) -> None:
    """List the installed packs (name, size, licence, what they were trained on, scores), add or remove one."""
    if context.invoked_subcommand is None:
        _list()


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    from lipsound2.packs import list_packs

    if manner().json:
        for found in list_packs():
            result("", asdict(found.info) | {"bytes": found.size, "folder": str(found.folder)})
        return
    table = Table("name", "size", "licence", "trained on", "vocoder", "scores", box=None)
    for found in list_packs():
        info = found.info
        scores = ", ".join(f"{name} {value:.3g}" for name, value in info.scores.items())
        table.add_row(info.name, f"{found.size / 1e6:.1f} MB", info.licence, info.trained_on, info.vocoder, scores)
    Console(soft_wrap=not sys.stdout.isatty()).print(table)
