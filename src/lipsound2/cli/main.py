"""The whole command.

Results go to stdout, progress and errors to stderr. Exit status: 0 all is done, 1 some of many
inputs failed, 2 nothing could be done, 70 a bug of ours, 130 interrupted.
"""

import signal
import sys

import typer

from lipsound2.cli import (
    data,
    demo,
    doctor,
    evaluation,
    imports,
    packs,
    reading,
    recognizers,
    speaking,
    training,
    vocoders,
)
from lipsound2.errors import InternalError, explain
from lipsound2.terminal import prepare_streams, say, show_error

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
    demo.demo,
):
    app.command()(command)
app.add_typer(vocoders.app, name="vocoder")
app.add_typer(recognizers.app, name="recognizer")
app.add_typer(imports.app, name="import")


def main() -> None:
    """Run the command; an expected error is one line and a hint, exit status 2."""
    prepare_streams()
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except _InterruptedError:
        say("interrupted; the same command goes on where it can")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  (the last place: whatever comes here is shown as one line)
        found = explain(error, "lipsound2")
        found.__cause__ = found.__cause__ or (None if found is error else error)
        show_error(found)
        sys.exit(70 if isinstance(found, InternalError) else 2)


class _InterruptedError(BaseException):
    """Ctrl-C, under a name that the command-line library does not turn into a message of its own."""


def _interrupt(*_: object) -> None:
    raise _InterruptedError
