import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from lipsound2.errors import DataError, FaceError, LipSoundError, StorageError
from lipsound2.runtime import atomic
from lipsound2.runtime.claims import claim
from lipsound2.runtime.executors import AHEAD, Executor, InProcess, Outcome, Processes, choose
from lipsound2.runtime.plans import changes, write_plan
from lipsound2.runtime.resumable import STAGING_NAME, Failure, FolderJob, resumable_map


@dataclass(frozen=True)
class Number:
    """A number, and the file that its square is staged as."""

    value: int
    path: Path

    @property
    def name(self) -> str:
        return f"number {self.value}"


class Squarer:
    """Stages squares; made once a process."""

    def __init__(self, odd: Callable[[int], None] = lambda value: None):
        self.odd = odd
        self.made = 0

    def __call__(self, item: Number) -> None:
        self.odd(item.value)
        self.made += 1
        item.path.parent.mkdir(exist_ok=True)
        item.path.write_text(json.dumps([item.value**2, self.made, os.getpid()]))


@dataclass
class Squares(FolderJob[Number]):
    output: Path
    count: int = 6
    odd: Callable[[int], None] = lambda value: None
    landings: list[int] = field(default_factory=list)
    title = "square"

    def begin(self) -> None:
        others = changes(self.output / "plan.json", {"count": self.count})
        if others is None:
            write_plan(self.output / "plan.json", {"count": self.count})
        elif others:
            raise DataError("; ".join(others))

    def complete(self) -> bool:
        return (self.output / "index").exists()

    def items(self) -> list[Number]:
        return [Number(value, self.output / STAGING_NAME / str(value)) for value in range(self.count)]

    def staged(self, item: Number) -> bool:
        return item.path.exists()

    def worker(self) -> Callable[[], Squarer]:
        return partial(Squarer, self.odd)

    def fail(self, item: Number, error: LipSoundError) -> None:
        item.path.parent.mkdir(exist_ok=True)
        item.path.write_text(json.dumps([error.message, 0, 0]))

    def landed(self, item: Number) -> None:
        self.landings.append(item.value)

    def finish(self) -> None:
        results = [json.loads(item.path.read_text())[0] for item in self.items()]
        (self.output / "index").write_text(json.dumps(results))


def index(folder: Path) -> list[object]:
    return json.loads((folder / "index").read_text())


def test_results_are_staged_and_put_together_once(tmp_path):
    told = []
    job = Squares(tmp_path, 3)
    assert resumable_map(job, InProcess(), lambda *done: told.append(done)) == (3, 0, [], 0)
    assert index(tmp_path) == [0, 1, 4]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert not (tmp_path / STAGING_NAME).exists()
    assert resumable_map(Squares(tmp_path, 3), InProcess()) == (0, 3, [], 0)
    with pytest.raises(DataError, match=r"^count 3, not 4$"):
        resumable_map(Squares(tmp_path, 4), InProcess())
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        resumable_map(Squares(tmp_path, 3), InProcess())


def stop_at_three(value: int) -> None:
    if value == 3:
        raise KeyboardInterrupt


def test_what_was_stopped_goes_on_and_nothing_is_made_twice(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        resumable_map(Squares(tmp_path, odd=stop_at_three), InProcess())
    job = Squares(tmp_path)
    assert resumable_map(job, InProcess()) == (3, 3, [], 0)
    assert job.landings == list(range(6))
    assert index(tmp_path) == [0, 1, 4, 9, 16, 25]


def test_what_a_killed_process_left_half_written_goes(tmp_path, monkeypatch):
    lost = tmp_path / "below" / f".name.{atomic._host()}.1234{atomic.PART_SUFFIX}"
    lost.parent.mkdir()
    lost.touch()
    monkeypatch.setattr(atomic, "_lives", lambda process: process != 1234)
    resumable_map(Squares(tmp_path), InProcess())
    assert list(lost.parent.iterdir()) == []


def test_two_at_once_do_not_work_in_one_folder(tmp_path):
    with claim(tmp_path, "square"), pytest.raises(StorageError, match="another square"):
        resumable_map(Squares(tmp_path), InProcess())


class Half:
    """Does every second item, as one of two machines would."""

    def __init__(self, first: int):
        self.first = first

    def run(self, worker, items):
        yield from InProcess().run(worker, [item for item in items if item.value % 2 == self.first])


def test_an_executor_may_leave_items_to_another(tmp_path):
    assert isinstance(Half(0), Executor)
    assert resumable_map(Squares(tmp_path), Half(0)) == (3, 0, [], 3)
    assert not (tmp_path / "index").exists()
    assert resumable_map(Squares(tmp_path), Half(1)) == (3, 3, [], 0)
    assert index(tmp_path) == [0, 1, 4, 9, 16, 25]


def trouble(value: int) -> None:
    if value == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if value == 2:
        raise FaceError("no face")
    if value == 3:
        raise ZeroDivisionError("division by zero")


def test_failures_are_values_and_a_death_costs_only_its_item(tmp_path):
    report = resumable_map(Squares(tmp_path, 8, trouble), Processes(2))
    assert (report.made, report.kept) == (5, 0)
    reasons = dict(report.failures)
    assert reasons["number 1"] == "the worker process died on it"
    assert reasons["number 2"] == "number 2: no face"
    assert "number 3: internal error (ZeroDivisionError" in reasons["number 3"]
    assert isinstance(report.failures[0], Failure)
    assert index(tmp_path)[4:] == [16, 25, 36, 49]


class Counted(list):
    """Items that note how many were taken."""

    taken = 0

    def __iter__(self):
        for item in super().__iter__():
            self.taken += 1
            yield item


def test_a_worker_is_made_once_a_process_and_few_items_are_under_way(tmp_path):
    items = Counted(Squares(tmp_path, 12).items())
    for done, outcome in enumerate(Processes(2).run(Squarer, items)):
        assert outcome.error is None
        assert items.taken <= done + 2 * AHEAD
    results = [json.loads(item.path.read_text()) for item in items]
    processes = {process for _, _, process in results}
    assert len(processes) <= 2
    assert os.getpid() not in processes
    for each in processes:
        assert sorted(made for _, made, process in results if process == each)[0] == 1
    assert sum(max(made for _, made, process in results if process == each) for each in processes) == 12


def cannot_load() -> Squarer:
    raise FaceError("yunet.onnx is a web page (HTML)")


def dies() -> Squarer:
    os._exit(1)


def full(value: int) -> None:
    raise StorageError("cannot write: No space left on device")


def test_what_concerns_all_items_is_raised(tmp_path):
    items = Squares(tmp_path).items()
    for executor in (InProcess(), Processes(1)):
        with pytest.raises(FaceError, match="web page"):
            list(executor.run(cannot_load, items))
        with pytest.raises(StorageError, match="No space left"):
            list(executor.run(partial(Squarer, full), items))
    with pytest.raises(LipSoundError, match="worker processes do not start"):
        list(Processes(1).run(dies, items))


def test_nothing_is_loaded_where_nothing_is_to_do():
    for executor in (InProcess(), Processes(2), choose(0), choose(1)):
        assert list(executor.run(cannot_load, [])) == []
    assert isinstance(choose(1), InProcess)
    assert Outcome(1).error is None
