"""Items and what is done with each -> outcomes as they come, by the machines of a Ray cluster.

Each actor makes its worker once (a face detector, a model) and keeps it. Few items are handed to an actor ahead of
their time. Those of one that is lost, with its process or its machine, are done again by others.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Generic

from lipsound2.errors import LipSoundError, MissingExtraError, guard
from lipsound2.runtime.executors import AHEAD, I, Outcome, Work, Worker, attempt

LOCAL = "local"
"""The address of a cluster of this machine alone, which ends with this process."""
LIVES = 3
"""An item fails when so many actors were lost while they did it."""


class Actor(Generic[I]):
    """What a process of the cluster keeps."""

    def __init__(self, worker: Worker[I]) -> None:
        import cv2

        cv2.setNumThreads(1)
        self.worker = worker
        self.work: Work[I] | None = None

    def ready(self) -> LipSoundError | None:
        """Make the worker, and return why it cannot be made."""
        try:
            with guard("a worker process"):
                self.work = self.worker()
        except LipSoundError as error:
            return error
        return None

    def do(self, item: I) -> tuple[LipSoundError | None, bool]:
        """Do an item; return its error, and whether that concerns all items."""
        assert self.work is not None
        try:
            return attempt(self.work, item), False
        except LipSoundError as error:
            return error, True


class Ray:
    """Does items on a Ray cluster; the folder of their results must be one that all its machines share.

    Args:
        address: `auto` for the cluster that this machine belongs to, `local` for a new one of it alone, or an address.
        count: How many actors; 0 takes one for each CPU that the cluster has now.
    """

    def __init__(self, address: str, count: int = 0) -> None:
        self.address = address
        self.count = count

    def run(self, worker: Worker[I], items: Sequence[I]) -> Iterator[Outcome[I]]:
        """Do items; nothing is started where there are none."""
        if not items:
            return
        ray = _import()
        started = not ray.is_initialized()
        if started:
            _connect(ray, self.address, self.count)
        crew = _Crew(ray, worker, items)
        try:
            crew.hire(min(self.count or max(1, int(ray.cluster_resources().get("CPU", 1))), len(items)))
            while crew.todo():
                yield from crew.wait()
        finally:
            crew.dismiss()
            if started:
                ray.shutdown()


class _Crew(Generic[I]):
    """The actors and what each of them has to do."""

    def __init__(self, ray: Any, worker: Worker[I], items: Sequence[I]) -> None:
        self.ray = ray
        self.worker = worker
        self.waiting = deque(items)
        self.starting: dict[Any, Any] = {}
        self.queues: dict[Any, deque[tuple[Any, I]]] = {}
        self.lost = Counter[str]()
        self.size = 0
        self.failed_starts = 0

    def hire(self, count: int) -> None:
        """Start so many actors more."""
        self.size = max(self.size, count)
        remote = self.ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Actor)
        for _ in range(count):
            actor = remote.remote(self.worker)
            self.starting[actor.ready.remote()] = actor

    def todo(self) -> bool:
        """Return whether an item is waiting or under way."""
        return bool(self.waiting) or any(self.queues.values())

    def wait(self) -> Iterator[Outcome[I]]:
        """Wait until something happens, and yield the outcome of what is done."""
        firsts = {queue[0][0]: actor for actor, queue in self.queues.items() if queue}
        for reference in self.ray.wait([*firsts, *self.starting])[0]:
            if reference in self.starting:
                self._welcome(self.starting.pop(reference), reference)
            else:
                yield from self._take(firsts[reference], reference)

    def dismiss(self) -> None:
        """End all actors."""
        for actor in (*self.starting.values(), *self.queues):
            self.ray.kill(actor)

    def _welcome(self, actor: Any, reference: Any) -> None:
        try:
            error = self.ray.get(reference)
        except self.ray.exceptions.RayActorError as lost:
            self.failed_starts += 1
            if self.failed_starts >= LIVES * self.size:
                raise LipSoundError(f"the processes of the Ray cluster do not start: {lost}") from lost
            self.hire(1)
            return
        if error:
            raise error
        self.failed_starts = 0
        self.queues[actor] = deque()
        self._hand_over(actor)

    def _take(self, actor: Any, reference: Any) -> Iterator[Outcome[I]]:
        try:
            error, of_all = self.ray.get(reference)
        except self.ray.exceptions.RayActorError:
            yield from self._mourn(actor)
            return
        if of_all:
            raise error
        _, item = self.queues[actor].popleft()
        self._hand_over(actor)
        yield Outcome(item, error)

    def _mourn(self, actor: Any) -> Iterator[Outcome[I]]:
        """Let others do what a lost actor had to do; the item that it was at fails if it cost several their life."""
        (_, suspect), *others = self.queues.pop(actor)
        self.lost[suspect.name] += 1
        self.waiting.extendleft(item for _, item in reversed(others))
        if self.lost[suspect.name] >= LIVES:
            hint = "if it was for want of memory, run it again with fewer --workers"
            yield Outcome(suspect, LipSoundError("the worker process died on it", hint))
        else:
            self.waiting.appendleft(suspect)
        self.hire(1)
        for each in self.queues:
            self._hand_over(each)

    def _hand_over(self, actor: Any) -> None:
        while self.waiting and len(self.queues[actor]) < AHEAD:
            item = self.waiting.popleft()
            self.queues[actor].append((actor.do.remote(item), item))


def _import() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--ray needs Ray", "pip install 'lipsound2[cluster]'") from error
    return ray


def _connect(ray: Any, address: str, count: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with guard(f"a Ray cluster at {address}"):
            if address == LOCAL:
                ray.init(address=LOCAL, num_cpus=count or None, include_dashboard=False, **quiet)
            else:
                ray.init(address=address, **quiet)
    except LipSoundError as error:
        hint = "start one with: ray start --head, or give --ray local; a busy machine may be too slow for that"
        raise LipSoundError(f"no Ray cluster at {address}: {error.__cause__}", hint) from error
