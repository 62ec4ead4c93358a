"""Many items of work -> their results in one folder; a run that was stopped goes on where it was.

`resumable_map` does everything in the one order that survives being killed at any moment:

    claim     no other process works in the folder
    begin     it is new, or was begun with the same plan; what is damaged is taken away
    execute   every item without a result, by an executor; each result is staged as a file of its own
    finish    results are put together and the index is written last: a folder with an index is done

Several processes, on one machine or on many that share the folder, each do a share of it; the last one finishes.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Generic, NamedTuple

from lipsound2.errors import LipSoundError
from lipsound2.runtime.atomic import sweep
from lipsound2.runtime.claims import Share, can_lock, claim, claim_share, forget_shares, gate, shares_at_work
from lipsound2.runtime.executors import Executor, I, Worker

STAGING_NAME = ".staging"
"""Folder for what is needed only until all is done."""
Progress = Callable[[int, int], None]
"""Told how many of how many items are done."""


class Failure(NamedTuple):
    """An item of which nothing could be made, and why."""

    name: str
    reason: str


class Report(NamedTuple):
    """What became of the items.

    Attributes:
        made: How many were made now.
        kept: How many were found as they were.
        failures: Those that failed now.
        left: How many others have to do, or a later run.
    """

    made: int
    kept: int
    failures: list[Failure]
    left: int = 0


class FolderJob(ABC, Generic[I]):
    """What is made of items in one folder.

    Attributes:
        title: What is done, such as `prepare`.
        output: The folder.
    """

    title: str
    output: Path

    @abstractmethod
    def begin(self) -> None:
        """Write down the plan, or see that the folder was begun with the same one; mend what is damaged.

        Raises:
            LipSoundError: It was begun with another; the message says what differs.
        """

    def complete(self) -> bool:
        """Return whether an earlier run finished the folder."""
        return False

    @abstractmethod
    def items(self) -> Sequence[I]:
        """List all items."""

    def groups(self) -> Sequence[Sequence[I]]:
        """List the items that must be done by one share, whose results are put together before all are there."""
        return [[item] for item in self.items()]

    @abstractmethod
    def staged(self, item: I) -> bool:
        """Return whether an item's result, or the reason why it has none, is there."""

    @abstractmethod
    def worker(self) -> Worker[I]:
        """Return what makes, in each process, what does an item and stages its result."""

    @abstractmethod
    def fail(self, item: I, error: LipSoundError) -> None:
        """Keep why an item has no result."""

    def landed(self, item: I) -> None:
        """Take notice that an item is done, now or in an earlier run."""

    @abstractmethod
    def finish(self) -> None:
        """Put the results together and write the index last."""


def resumable_map(
    job: FolderJob[I],
    executor: Executor,
    progress: Progress = lambda done, total: None,
    wait: bool = False,
    share: Share = Share(),  # noqa: B008  (a constant)
) -> Report:
    """Do what is left of a job, or of a share of it.

    Args:
        job: What is done.
        executor: Where it is done. Where it leaves items to others, a call that finds all done finishes the job.
        progress: Told how many of how many items are done.
        wait: Whether to wait for another process that works in the folder instead of refusing.
        share: Which share of the items. The last share to end finishes the job, as does a later call for all of it.

    Raises:
        StorageError: The folder cannot be written, or another process does the same work in it.
        LipSoundError: What `begin` or the executor raises.
    """
    if share.of > 1:
        return _share(job, executor, progress, share)
    with claim(job.output, job.title, wait):
        items = _begin(job)
        if job.complete():
            report = Report(0, len(items), [])
            progress(len(items), len(items))
        else:
            report = _execute(job, executor, items, progress)
            left = len(items) - report.made - report.kept - len(report.failures)
            if left:
                return report._replace(left=left)
            job.finish()
        _clear(job)
    return report


def _share(job: FolderJob[I], executor: Executor, progress: Progress, share: Share) -> Report:
    with ExitStack() as claimed:
        with gate(job.output):
            claimed.enter_context(claim_share(job.output, job.title, share))
            _begin(job)
            groups = list(job.groups())
            own = [item for group in groups[share.number - 1 :: share.of] for item in group]
            if job.complete():
                _clear(job)
                progress(len(own), len(own))
                return Report(0, len(own), [])
        report = _execute(job, executor, own, progress)
        with gate(job.output):
            claimed.close()
            del groups[share.number - 1 :: share.of]
            return report._replace(left=_end(job, [item for group in groups for item in group]))


def _end(job: FolderJob[I], others: Sequence[I]) -> int:
    """Finish a job of which this process was the last to do its share, or return how many items are left.

    Args:
        job: What is done.
        others: The items of the other shares.
    """
    if not can_lock(job.output) or shares_at_work(job.output):
        return len(others)
    items = _begin(job)
    left = sum(not job.staged(item) for item in items)
    if not left:
        for item in others:
            job.landed(item)
        job.finish()
        _clear(job)
    return left


def _begin(job: FolderJob[I]) -> Sequence[I]:
    job.begin()
    sweep(job.output, below=True)
    return job.items()


def _clear(job: FolderJob[I]) -> None:
    shutil.rmtree(job.output / STAGING_NAME, ignore_errors=True)
    forget_shares(job.output)


def _execute(job: FolderJob[I], executor: Executor, items: Sequence[I], progress: Progress) -> Report:
    todo = []
    for item in items:
        if job.staged(item):
            job.landed(item)
        else:
            todo.append(item)
    kept = len(items) - len(todo)
    progress(kept, len(items))
    done, failures = 0, list[Failure]()
    for done, outcome in enumerate(executor.run(job.worker(), todo), 1):
        if outcome.error:
            job.fail(outcome.item, outcome.error)
            failures.append(Failure(outcome.item.name, outcome.error.message))
        job.landed(outcome.item)
        progress(kept + done, len(items))
    return Report(done - len(failures), kept, failures)
