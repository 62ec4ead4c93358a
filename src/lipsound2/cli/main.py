"""The whole command.

Results go to stdout, progress and errors to stderr. Exit status: 0 all is done, 1 some of many
inputs failed, 2 nothing could be done, 70 a bug of ours, 130 interrupted.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from lipsound2 import __version__
from lipsound2.cli import (
    adapt,
    data,
    demo,
    doctor,
    evaluation,
    export,
    imports,
    live,
    packs,
    reading,
    recipes,
    serve,
    speaking,
    training,
)
from lipsound2.cli.options import EPILOG
from lipsound2.errors import ConfigError, InternalError, LipSoundError, explain
from lipsound2.runtime.terminal import DEBUG_VARIABLE, Manner, behave, prepare_streams, say, show_error

MANNERS = {
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
    "--json": "json",
    "--debug": "debug",
}
"""Options that every command takes, anywhere."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Reconstruct speech from silent video of a talking face, and read it.",
    epilog=EPILOG,
)
for command in (
    speaking.speak,
    reading.read,
    adapt.adapt,
    live.live,
    serve.serve,
    data.prepare,
    data.download,
    data.join,
    data.simulate,
    training.pretrain,
    training.finetune,
    evaluation.evaluate,
    evaluation.compare,
    evaluation.plot,
    packs.pack,
    export.export,
    doctor.doctor,
    demo.demo,
):
    app.command(epilog=EPILOG)(command)
app.add_typer(training.vocoder, name="vocoder")
app.add_typer(training.recognizer, name="recognizer")
app.add_typer(packs.app, name="packs")
app.add_typer(recipes.app, name="recipe")
app.add_typer(imports.app, name="import")


def _version(wanted: bool) -> bool:
    if wanted:
        print(f"lipsound2 {__version__}")  # noqa: T201
        raise typer.Exit
    return False


@app.callback()
def _whole(
    _: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status; an error is one line and a hint."""
    prepare_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with _interrupts():
        try:
            words = _behave(words)
            status = app(words, prog_name="lipsound2", standalone_mode=False)
        except _InterruptedError:
            say("interrupted; the same command goes on where it can")
            status = 130
        except _CLICK_ERROR as error:
            status = _show_usage(error, words)
        except Exception as error:  # noqa: BLE001  (the last place: whatever comes here is shown as one line)
            found = explain(error, "lipsound2")
            found.__cause__ = found.__cause__ or (None if found is error else error)
            show_error(found)
            status = 70 if isinstance(found, InternalError) else 2
    sys.exit(status or 0)


_USAGE_ERROR: Any = typer.BadParameter.__bases__[0]
_CLICK_ERROR: Any = _USAGE_ERROR.__bases__[0]
"""What the command-line library raises, which newer versions of typer bring along under other names."""


def _behave(words: list[str]) -> list[str]:
    """Take the options that every command knows out of the arguments, wherever they stand, and follow them."""
    if "" in words:
        raise ConfigError("one of the arguments is empty", "a variable of the shell may not be set")
    stop = words.index("--") if "--" in words else len(words)
    asked = {MANNERS[word] for word in words[:stop] if word in MANNERS}
    if "debug" in asked:
        os.environ[DEBUG_VARIABLE] = "1"
    behave(Manner(**dict.fromkeys(asked - {"debug"}, True)))
    return [word for number, word in enumerate(words) if number >= stop or word not in MANNERS]


def _show_usage(error: Any, words: list[str]) -> int:
    """Show a wrong use of the command as one line and a hint; without arguments, the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "lipsound2"
    message = " ".join(error.format_message().split())
    message = message.split(" Did you mean")[0].split(" (Possible options")[0].rstrip(".")
    hint = _suggest(error, context, words) or f"{path} --help lists what there is"
    show_error(LipSoundError(message[:1].lower() + message[1:], hint))
    return 2


def _suggest(error: Any, context: Any, words: list[str]) -> str | None:
    """Return what may have been meant: a file that begins with a dash, or a name that is near."""
    for word in words:
        if word.startswith("-") and word != "-" and Path(word).exists():
            return f"a file whose name begins with a dash goes behind two of them: {context.command_path} -- {word}"
    near = list(getattr(error, "possibilities", None) or ())
    if not near and context and hasattr(context.command, "commands"):
        wrong = next((word for word in words if f"'{word}'" in error.format_message()), "")
        near = get_close_matches(wrong, context.command.commands, 3, 0.6)
    return f"did you mean {' or '.join(near)}?" if near else None


class _InterruptedError(BaseException):
    """Ctrl-C, under a name that the command-line library does not turn into a message of its own."""


@contextmanager
def _interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(*_: object) -> None:
    raise _InterruptedError
