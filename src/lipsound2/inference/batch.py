"""Many videos and what is done with each -> results on stdout and a tally; a bad video fails alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lipsound2.errors import InternalError, LipSoundError, guard
from lipsound2.inference.jobs import Found, Job
from lipsound2.inference.summary import Row, line, show_table, told, write_table
from lipsound2.runtime.terminal import manner, result, say, show_error

P = TypeVar("P")
T = TypeVar("T")


@dataclass
class Tally:
    """How many videos were done, were there already, and failed; `rows` tell of each, with its status."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    bugs: int = 0
    rows: list[tuple[Path, str, Row]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.skipped + self.failed

    @property
    def status(self) -> int:
        """Exit status: 0 all is done, 1 some failed, 2 all failed, 70 all failed and one by a bug of ours."""
        if self.failed < self.total or not self.failed:
            return 1 if self.failed else 0
        return 70 if self.bugs else 2

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total} done"]
        parts += [f"{self.skipped} skipped (already there)"] if self.skipped else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return ", ".join(parts)

    def fail(self, source: Path, error: LipSoundError) -> None:
        """Count and print a failure."""
        show_error(error)
        result("", {"source": str(source), "status": "failed", "error": error.message, "hint": error.hint})
        self.rows.append((source, "failed", {}))
        self.failed += 1
        self.bugs += isinstance(error, InternalError)


def work_through(
    found: Found,
    plan: Callable[[Job], P | None],
    prepare: Callable[[], T],
    work: Callable[[T, Job, P, str], dict[str, Any]],
    outputs: Callable[[Job], Sequence[Path]] = lambda _: (),
    known: Callable[[Job], Row] = lambda _: {},
    table: Path | None = None,
) -> Tally:
    """Process each video that is not done yet.

    Args:
        found: The videos, and inputs that were refused.
        plan: Says what a video needs; None if it is done already.
        prepare: Loads what the work needs; called only if there is work.
        work: Does it, prints the files written, and returns the facts for --json; is given a title for its bar.
        outputs: Lists the results of a video that is done already.
        known: Says what the table tells of such a video.
        table: Where to write the table, as comma-separated values.

    Returns:
        How it went.
    """
    tally = Tally()
    for source, error in found.refused:
        tally.fail(source, error)
    todo: list[tuple[Job, P]] = []
    for job in found.jobs:
        try:
            with guard(job.video):
                planned = plan(job)
                if planned is not None:
                    todo.append((job, planned))
                    continue
                files = [str(path) for path in outputs(job)]
                tally.rows.append((job.video, "already there", known(job)))
            result("", {"source": str(job.video), "status": "skipped", "outputs": files})
            tally.skipped += 1
        except LipSoundError as error:
            tally.fail(job.video, error)
    if tally.skipped:
        say(f"{tally.skipped} of {found.total} already done; --force does all anew")
    tools = prepare() if todo else None
    for number, (job, planned) in enumerate(todo, found.total - len(todo) + 1):
        title = job.video.name if found.total == 1 else f"{number} of {found.total} {job.video.name}"
        try:
            with guard(job.video):
                assert tools is not None
                facts = work(tools, job, planned, title)
            result("", {"source": str(job.video), "status": "done"} | facts)
            row = told(facts)
            if row:
                count = f"{number} of {found.total} " if found.total > 1 else ""
                say(f"{count}{job.video.name}: {line(facts)}")
            tally.rows.append((job.video, "done", row))
            tally.done += 1
        except LipSoundError as error:
            tally.fail(job.video, error)
    if tally.total > 1:
        tally.rows.sort(key=lambda each: each[0])
        if any(row for _, _, row in tally.rows):
            show_table(tally.rows)
        say(str(tally))
    if table is not None:
        write_table(table, tally.rows)
    return tally


def show_file(path: Path) -> None:
    """Print the name of a file that was written; with --json it is among the facts instead."""
    if not manner().json:
        result(str(path), {})
