"""A folder -> all files below it by name, whatever links lead to."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(
    root: Path, unread: Callable[[OSError], None], once: bool = False, shut: frozenset[str] = frozenset()
) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder, after those above it, with its files by name; hidden ones are passed over.

    Linked folders are entered as if they were there, but none within itself. Links to nothing count as files, for
    whoever opens them to report.

    Args:
        root: The folder.
        unread: Told why a folder cannot be read; the error's `filename` names it.
        once: Whether folders that several links lead to are entered once only.
        shut: Real paths of folders that are not entered.
    """
    entered = set(shut)

    def enter(folder: Path, above: frozenset[str]) -> Iterator[tuple[Path, list[Path]]]:
        here = os.path.realpath(folder)
        if here in above or here in entered:
            return
        if once:
            entered.add(here)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            unread(error)
            return
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        folders = {entry.name for entry in shown if _is_folder(entry)}
        yield folder, [folder / entry.name for entry in shown if entry.name not in folders]
        for entry in shown:
            if entry.name in folders:
                yield from enter(folder / entry.name, above | {here})

    yield from enter(root, frozenset())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
