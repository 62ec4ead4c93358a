"""The whole command.

Results go to stdout, progress and errors to stderr. Exit status: 0 all is done, 1 some of many
inputs failed, 2 nothing could be done, 130 interrupted.
"""

import os
import signal
import sys

import typer

from lipsound2.cli import data, doctor, evaluation, imports, packs, reading, recognizers, speaking, training, vocoders
from lipsound2.errors import LipSoundError
from lipsound2.terminal import console, show_error

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Give a silent video of a talking face its voice back.",
)
for command in (
    speaking.speak,
    reading.read,
    data.prepare,
    data.join,
    data.simulate,
    training.pretrain,
    training.finetune,
    evaluation.evaluate,
    evaluation.compare,
    evaluation.plot,
    packs.pack,
    packs.packs,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(vocoders.app, name="vocoder")
app.add_typer(recognizers.app, name="recognizer")
app.add_typer(imports.app, name="import")


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
