import os
import sys
from collections.abc import Callable

import pytest
from test_resumable import Number, Squares, index

from lipsound2.cli.options import find_share
from lipsound2.errors import ConfigError, MissingExtraError, StorageError
from lipsound2.runtime import claims
from lipsound2.runtime.claims import Share, claim, gate
from lipsound2.runtime.executors import InProcess
from lipsound2.runtime.ray_cluster import Ray
from lipsound2.runtime.resumable import STAGING_NAME, resumable_map

ALL = [0, 1, 4, 9, 16, 25]


class Meanwhile:
    """Does items, and something else after the first."""

    def __init__(self, other: Callable[[], object]):
        self.other = other

    def run(self, worker, items):
        for number, outcome in enumerate(InProcess().run(worker, items)):
            yield outcome
            if number == 0:
                self.other()


def share(folder, number: int, count: int = 2, executor=None):
    return resumable_map(Squares(folder), executor or InProcess(), share=Share(number, count))


def left_behind(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_share_to_end_finishes(tmp_path):
    assert share(tmp_path, 1, 3) == (2, 0, [], 4)
    assert sorted(path.name for path in (tmp_path / STAGING_NAME).iterdir()) == ["0", "3"]
    assert share(tmp_path, 3, 3) == (2, 0, [], 2)
    assert share(tmp_path, 2, 3) == (2, 0, [], 0)
    assert index(tmp_path) == ALL
    assert share(tmp_path, 2, 3) == (0, 2, [], 0)
    assert left_behind(tmp_path) == ["index", "plan.json"]


def test_shares_work_at_once_in_one_folder_and_the_later_one_finishes(tmp_path):
    inner = []
    assert share(tmp_path, 1, 2, Meanwhile(lambda: inner.append(share(tmp_path, 2)))) == (3, 0, [], 0)
    assert inner == [(3, 0, [], 3)]
    assert index(tmp_path) == ALL
    assert left_behind(tmp_path) == ["index", "plan.json"]


def test_a_run_without_a_share_finishes_what_shares_began(tmp_path):
    share(tmp_path, 2)
    assert resumable_map(Squares(tmp_path), InProcess()) == (3, 3, [], 0)
    assert index(tmp_path) == ALL
    assert left_behind(tmp_path) == ["index", "plan.json"]


@pytest.mark.parametrize(
    ("second", "holder"),
    [
        (lambda folder: share(folder, 1), r"square \(share 1/2\)"),
        (lambda folder: share(folder, 3, 4), r"square \(share 1/2, of another number of shares\)"),
        (lambda folder: resumable_map(Squares(folder), InProcess()), r"square \(share 1/2\)"),
    ],
)
def test_nothing_is_done_twice_at_once(tmp_path, second, holder):
    def try_it():
        with pytest.raises(StorageError, match=f"another {holder} is working in"):
            second(tmp_path)

    assert share(tmp_path, 1, 2, Meanwhile(try_it)) == (3, 0, [], 3)
    assert share(tmp_path, 2).left == 0


def test_no_share_begins_where_one_does_all(tmp_path):
    with claim(tmp_path, "square"), pytest.raises(StorageError, match=rf"another square \(process {os.getpid()}"):
        share(tmp_path, 1)
    assert share(tmp_path, 1).left == 3


def test_a_share_that_was_killed_holds_nothing_up(tmp_path):
    def kill(value: int) -> None:
        if value == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resumable_map(Squares(tmp_path, odd=kill), InProcess(), share=Share(1, 2))
    (tmp_path / ".lock").touch()  # as a kill leaves it
    (tmp_path / ".lock.1-of-2").touch()
    assert share(tmp_path, 2) == (3, 0, [], 2)
    assert share(tmp_path, 1) == (2, 1, [], 0)
    assert index(tmp_path) == ALL
    assert left_behind(tmp_path) == ["index", "plan.json"]


class Threes(Squares):
    """Three numbers a group; what is put together of a group needs all of it."""

    def groups(self) -> list[list[Number]]:
        items = self.items()
        return [items[:3], items[3:]]


def test_a_group_is_not_shared_out(tmp_path):
    job = Threes(tmp_path)
    assert resumable_map(job, InProcess(), share=Share(2, 2)).left == 3
    assert job.landings == [3, 4, 5]
    assert resumable_map(Threes(tmp_path), InProcess(), share=Share(1, 2)).left == 0
    assert resumable_map(Threes(tmp_path / "more"), InProcess(), share=Share(3, 3)) == (0, 0, [], 6)


def test_without_locks_a_run_for_all_finishes(tmp_path, monkeypatch, capsys):
    def unknown(*_args, **_kwargs):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(claims.FileLock, "acquire", unknown)
    share(tmp_path, 1)
    assert share(tmp_path, 2) == (3, 0, [], 3)
    assert not (tmp_path / "index").exists()
    assert "cannot be locked" in " ".join(capsys.readouterr().err.split())
    assert resumable_map(Squares(tmp_path), InProcess()) == (0, 6, [], 0)
    assert index(tmp_path) == ALL


def test_those_who_wait_at_the_gate_go_one_by_one(tmp_path):
    with gate(tmp_path):
        assert claims.can_lock(tmp_path)
    assert not claims.can_lock(tmp_path)


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "1/2/3", "-1/4", "1/0", "²/³"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ConfigError, match="is no share"):
        find_share(text)
    assert find_share("3/16") == (3, 16)
    assert find_share(None) == (1, 1)


def test_without_ray_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught:
        resumable_map(Squares(tmp_path), Ray("auto"))
    assert "lipsound2[cluster]" in caught.value.hint
