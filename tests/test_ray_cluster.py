"""Needs the extra `cluster`; the faces and sounds of a real preparation are compared by `tests/cluster_kills.py`."""

import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from test_resumable import Squarer, Squares, cannot_load, dies, full, index

from lipsound2.errors import FaceError, LipSoundError, StorageError
from lipsound2.runtime.executors import AHEAD
from lipsound2.runtime.ray_cluster import LIVES, LOCAL, Ray
from lipsound2.runtime.resumable import resumable_map

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TESTS = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def cluster():
    """Two processes, which the tests share since they take long to start."""
    path = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"env_vars": {"PYTHONPATH": path}}
    ray.init(LOCAL, num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


def results(folder: Path) -> list[list[int]]:
    return [json.loads(item.path.read_text()) for item in Squares(folder, 12).items()]


class KeepStaged(Squares):
    """Squares whose staged files can be looked at afterwards."""

    def finish(self) -> None:
        super().finish()
        self.seen = results(self.output)


def test_actors_keep_what_they_made(cluster, tmp_path):
    job = KeepStaged(tmp_path, 12)
    assert resumable_map(job, Ray(LOCAL, 2)) == (12, 0, [], 0)
    assert index(tmp_path) == [value**2 for value in range(12)]
    processes = {process for _, _, process in job.seen}
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes
    assert sum(max(made for _, made, process in job.seen if process == each) for each in processes) == 12


def die_once(folder: Path, value: int) -> None:
    mark = folder / f"{value} was here"
    if value in (1, 5) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die_always(value: int) -> None:
    if value == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if value == 2:
        raise FaceError("no face")


def test_what_a_lost_actor_had_to_do_is_done_by_others(cluster, tmp_path):
    folder = tmp_path / "out"
    assert resumable_map(Squares(folder, 12, partial(die_once, tmp_path)), Ray(LOCAL, 2)) == (12, 0, [], 0)
    assert index(folder) == [value**2 for value in range(12)]
    assert len(list(tmp_path.glob("*was here"))) == 2


def test_an_item_that_kills_every_actor_costs_only_itself(cluster, tmp_path):
    report = resumable_map(Squares(tmp_path, 8, die_always), Ray(LOCAL, 2))
    assert dict(report.failures) == {"number 1": "the worker process died on it", "number 2": "number 2: no face"}
    assert report.made == 6
    assert LIVES == 3


def test_what_concerns_all_items_is_raised(cluster, tmp_path):
    items = Squares(tmp_path).items()
    with pytest.raises(FaceError, match="web page"):
        list(Ray(LOCAL, 1).run(cannot_load, items))
    with pytest.raises(StorageError, match="No space left"):
        list(Ray(LOCAL, 1).run(partial(Squarer, full), items))
    with pytest.raises(LipSoundError, match="do not start"):
        list(Ray(LOCAL, 1).run(dies, items))
    assert list(Ray(LOCAL, 1).run(cannot_load, [])) == []


def slowly(value: int) -> None:
    time.sleep(0.05)


def test_few_items_are_handed_over_ahead(cluster, tmp_path):
    items = Squares(tmp_path, 40).items()
    (tmp_path / ".staging").mkdir()
    for number, outcome in enumerate(Ray(LOCAL, 2).run(partial(Squarer, slowly), items)):
        assert outcome.error is None
        assert sum(item.path.exists() for item in items) <= number + 1 + 2 * AHEAD
