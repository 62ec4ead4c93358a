"""Errors, warnings and progress -> lines on stderr; stdout belongs to results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lipsound2.errors import LipSoundError

console = Console(stderr=True, highlight=False, soft_wrap=True)


def show_error(error: LipSoundError) -> None:
    """Print an error and its hint, a line each."""
    console.print("[bold red]error:[/]", error.message, markup=True, style=None)
    if error.hint:
        console.print("[dim]hint:[/]", error.hint)


def warn(message: str) -> None:
    """Print a warning on one line."""
    console.print("[yellow]warning:[/]", message)


def counting_bar() -> Progress:
    """Give a progress bar that counts, not yet started."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def counting(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar and yield the function that is told how many of how many things are done."""
    with counting_bar() as progress:
        bar = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
