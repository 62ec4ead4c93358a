"""Errors, warnings and progress -> lines on stderr; stdout belongs to results."""

import codecs
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table
from rich.text import Text

from lipsound2.errors import LipSoundError

BESIDE = 56
"""Columns of a terminal that a bar takes beside its name."""
DEBUG_VARIABLE = "LIPSOUND2_DEBUG"
SECONDS_A_LINE = 30.0
console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


@dataclass(frozen=True)
class Manner:
    """How much is printed.

    Attributes:
        quiet: No progress and no summaries; warnings and errors only.
        verbose: Also what is loaded and how long each stage takes.
        json: Results as a JSON object a line.
    """

    quiet: bool = False
    verbose: bool = False
    json: bool = False


_manner = [Manner()]


def behave(manner: Manner) -> None:
    """Choose how much is printed from now on."""
    _manner[0] = manner


def manner() -> Manner:
    """Return how much is printed."""
    return _manner[0]


def prepare_streams() -> None:
    """Let stdout and stderr write any text: bytes of file names as they are, what an encoding lacks as an escape."""
    codecs.register_error("lipsound2", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="lipsound2")


def show_error(error: LipSoundError) -> None:
    """Print an error and its hint, a line each; with --debug also where it was raised."""
    if os.environ.get(DEBUG_VARIABLE):
        _print(Text("".join(traceback.format_exception(error))))
    _print(Text("error: ", "bold red"), error.message)
    if error.hint:
        _print(Text("hint: ", "dim"), error.hint)


def warn(message: str) -> None:
    """Print a warning on one line."""
    _print(Text("warning: ", "yellow"), message)


def say(message: str) -> None:
    """Print a line about the work, unless --quiet is given."""
    if not manner().quiet:
        _print(message)


def show(drawn: Table) -> None:
    """Print a table, unless --quiet or --json is given; names in it are no markup."""
    if not manner().quiet and not manner().json:
        console.print(drawn, soft_wrap=False, markup=False)


def detail(message: str) -> None:
    """Print a line that only --verbose asks for."""
    if manner().verbose:
        _print(message)


def result(line: str, facts: dict[str, Any]) -> None:
    """Print a result on stdout: a line for people, or with --json its facts; none of an empty line.

    Work goes on when nobody reads any more.
    """
    text = json.dumps(facts) if manner().json else line
    if not text:
        return
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            show_error(LipSoundError(f"cannot write to standard output: {error.strerror}", "the files are written"))


class _Description(TextColumn):
    """The name of a bar, cut where the terminal is narrow, so that times and counts are not."""

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.truncate(max(8, console.width - BESIDE), overflow="ellipsis")
        return text


def description_column() -> TextColumn:
    """Return the column of a bar that gives way where the terminal is narrow."""
    return _Description("{task.description}", markup=False, table_column=Column(no_wrap=True))


def counting_bar(told: TextColumn | None = None) -> Progress:
    """Return a progress bar that counts, not yet started; `told` takes the place of its times."""
    times = (
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
    )
    return Progress(
        description_column(),
        BarColumn(20),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        *((told,) if told else times),
        console=console,
        disable=manner().quiet or not console.is_terminal,
    )


@contextmanager
def counting(
    description: str,
    clock: Callable[[], float] = time.monotonic,
    every: float = SECONDS_A_LINE,
    told: TextColumn | None = None,
) -> Iterator[Callable[..., None]]:
    """Show a bar and yield the function that is told how many of how many things are done, and perhaps a note of it.

    Where nobody looks, such as in a log file, it is a line every half minute.

    Args:
        description: What is done, such as `evaluating`.
        clock: Returns the time in seconds.
        every: Seconds from one line in a log to the next.
        told: Takes the place of the bar's own times; it shows `{task.fields[note]}`.
    """
    said = clock()

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal said
        progress.update(bar, completed=done, total=total, note=note)
        if progress.disable and clock() - said > every:
            said = clock()
            say(f"{description}: {done} of {total}{note}")

    with counting_bar(told) as progress:
        bar = progress.add_task(description, total=None, note="")
        yield update


@contextmanager
def transferring(description: str, received: Callable[[], int], total: int) -> Iterator[None]:
    """Show a bar of how many of how many bytes have been received, while the block runs.

    Args:
        description: What is done.
        received: Asked twice a second.
        total: All bytes.
    """
    ended = threading.Event()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    hidden = manner().quiet or not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=hidden) as progress:
        bar = progress.add_task(description, total=total, completed=received())

        def watch() -> None:
            while not ended.wait(0.5):
                progress.update(bar, completed=received())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            progress.update(bar, completed=received())


def _print(*parts: str | Text) -> None:
    """Print parts as one line, as they are: brackets in a file's name are no markup."""
    line = Text()
    for part in parts:
        line.append(part)
    console.print(line, soft_wrap=True)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what an encoding lacks: a byte of a file's name as that byte, all else as a backslash escape."""
    assert isinstance(error, UnicodeEncodeError)
    part = error.object[error.start : error.end]
    if all("\udc80" <= character <= "\udcff" for character in part):
        return part.encode("utf-8", "surrogateescape"), error.end
    return part.encode("ascii", "backslashreplace").decode(), error.end
