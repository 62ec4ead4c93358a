"""Items and what is done with each -> outcomes as they come, by this process or by several.

Each process makes its worker once (a face detector, a model) and does items with it. A failure is a value with its
reason; what concerns all items (a full disk, a worker that cannot be made) is raised.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import count, islice
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import cv2

from lipsound2.errors import LipSoundError, StorageError, guard

AHEAD = 2
"""Items a process that are handed over before a result is awaited, so that none waits and few are lost with a death."""


@runtime_checkable
class Item(Protocol):
    """Anything with a name that errors can quote."""

    @property
    def name(self) -> str:
        """As in errors."""
        ...


I = TypeVar("I", bound=Item)  # noqa: E741
Work = Callable[[I], None]
"""Does one item."""
Worker = Callable[[], Work[I]]
"""Makes what does the items, once in each process; it must be picklable to reach another one."""


class Outcome(NamedTuple, Generic[I]):
    """What became of an item; no error means that it is done."""

    item: I
    error: LipSoundError | None = None


@runtime_checkable
class Executor(Protocol):
    """Anything that does items, wherever that may be.

    One that leaves some of them to others, as one of several machines would, yields outcomes of its own alone.
    """

    def run(self, worker: Worker[I], items: Sequence[I]) -> Iterator[Outcome[I]]:
        """Do items and yield their outcomes in any order, each as soon as it is known.

        Raises:
            StorageError: Results cannot be written.
            LipSoundError: The worker cannot be made.
        """
        ...


class InProcess:
    """Does items one after another in this process."""

    def run(self, worker: Worker[I], items: Sequence[I]) -> Iterator[Outcome[I]]:
        """Do items; nothing is loaded where there are none."""
        work: Work[I] | None = None
        for item in items:
            work = work or worker()
            yield Outcome(item, attempt(work, item))


class Processes:
    """Does items in several processes; those under way when one dies are tried once more, each alone.

    Args:
        count: How many processes.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def run(self, worker: Worker[I], items: Sequence[I]) -> Iterator[Outcome[I]]:
        """Do items; an item that kills its process fails, and costs no other."""
        waiting = iter(items)
        processes = max(1, min(self.count, len(items)))
        while suspects := (yield from _until_a_death(worker, waiting, processes, AHEAD * processes)):
            again = iter(suspects)
            while killers := (yield from _until_a_death(worker, again, 1, 1)):
                hint = "if it was for want of memory, run it again with fewer --workers"
                yield from (Outcome(item, LipSoundError("the worker process died on it", hint)) for item in killers)


def choose(workers: int) -> Executor:
    """Return the executor for so many processes; 0 takes one a core, 1 none but this one."""
    processes = workers or os.cpu_count() or 1
    return Processes(processes) if processes > 1 else InProcess()


def attempt(work: Work[I], item: I) -> LipSoundError | None:
    """Do an item and return why it failed, if it did.

    Raises:
        StorageError: Its result cannot be written; nor can that of any other.
    """
    try:
        with guard(item.name):
            work(item)
    except StorageError:
        raise
    except LipSoundError as error:
        return error
    return None


def _until_a_death(
    worker: Worker[I], waiting: Iterator[I], processes: int, most: int
) -> Generator[Outcome[I], None, list[I]]:
    """Do items in a pool, at most so many under way, and return those under way when a process died."""
    context = get_context("spawn")
    started, numbers = context.Event(), count()
    under_way: dict[int, I] = {}
    running: dict[Future[LipSoundError | None], int] = {}
    with ProcessPoolExecutor(processes, context, _start, (worker, started)) as pool:

        def hand_over(most: int) -> None:
            fresh = {next(numbers): item for item in islice(waiting, most)}
            under_way.update(fresh)  # before a pool whose process just died refuses them
            running.update({pool.submit(_do, item): number for number, item in fresh.items()})

        try:
            with _interrupts_held_back():
                hand_over(most)
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    error = future.result()
                    yield Outcome(under_way.pop(running.pop(future)), error)
                    hand_over(1)
        except BrokenProcessPool as error:
            if not started.is_set():
                hint = "free some memory; a script needs: if __name__ == '__main__'"
                raise LipSoundError("the worker processes do not start", hint) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return list(under_way.values())


_work: list[Work[Any] | LipSoundError] = []
"""What this worker process does items with, or why it could not be made."""


def _start(worker: Worker[I], started: Event) -> None:
    _settle()
    try:
        with guard("a worker process"):
            _work[:] = [worker()]
    except LipSoundError as error:  # told by the first item: one that does not start is taken for dead
        _work[:] = [error]
    started.set()


def _do(item: I) -> LipSoundError | None:
    (work,) = _work
    if isinstance(work, LipSoundError):
        raise work
    return attempt(work, item)


def _settle() -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, dies with it and keeps to one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait while processes start, since half-started ones would complain; they never see it at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)
