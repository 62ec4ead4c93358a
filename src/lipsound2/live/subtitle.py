"""Captions as they come -> lines on the terminal: settled words stay, the open ones are written over."""

from types import TracebackType
from typing import Self

from rich.live import Live
from rich.text import Text

from lipsound2.live.captions import Caption
from lipsound2.runtime.terminal import console, manner, result, say


class Subtitle:
    """Shows captions while it is entered.

    Args:
        on_stdout: Whether settled lines are results, which go to standard output.
    """

    def __init__(self, on_stdout: bool = True) -> None:
        self._on_stdout = on_stdout
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if console.is_terminal and not manner().quiet:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._live.stop()

    def show(self, caption: Caption) -> None:
        """Show what was read."""
        if caption.settled:
            line = " ".join(word.text for word in caption.settled)
            facts = {
                "text": line,
                "start": round(caption.settled[0].start, 3),
                "end": round(caption.settled[-1].end, 3),
            }
            if self._on_stdout:
                result(line, facts)
            else:
                say(line)
        if self._live.is_started:
            self._live.update(Text(" ".join(word.text for word in caption.open), "dim"), refresh=True)
