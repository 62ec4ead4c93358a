"""A few damaged inputs of every kind at every run; `make fuzz` tries thousands."""

import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from fuzz import worker
from fuzz.__main__ import describe, run
from fuzz.lost import hang_or_crash
from fuzz.seeds import make_seeds
from fuzz.targets import TARGETS, make_case

from lipsound2.errors import DataError

CASES = 25
"""Of each group."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> worker.Plan:
    work = tmp_path_factory.mktemp("fuzz")
    make_seeds(work / "seeds")
    return worker.Plan(work / "seeds", work, seed=1)


@pytest.fixture(scope="module")
def watch(plan) -> worker.Watch:
    found = worker.Watch(plan)
    sys.addaudithook(found)
    return found


def test_damaged_inputs_cost_one_line_each(plan):
    outcomes = list(run(plan, [(group, index) for group in ("media", "data") for index in range(CASES)]))
    failed = [describe(outcome, plan) for outcome in outcomes if outcome.kind not in worker.GOOD]
    assert not failed, "\n".join(failed)
    assert {outcome.kind for outcome in outcomes} == set(worker.GOOD)


def test_a_case_is_the_same_every_time(plan, tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
    for group in ("media", "data"):
        first, second = (make_case(plan.seeds, tmp_path / name, group, 7, 3) for name in "ab")
        assert first.target == second.target
        assert [p.read_bytes() for p in _files(first.path)] == [p.read_bytes() for p in _files(second.path)]


def test_what_hangs_or_crashes_is_noticed_and_costs_one_process(tmp_path):
    lost = worker.Worker(worker.Plan(tmp_path, tmp_path, 1, worker.Limits(seconds=0.5)), hang_or_crash)
    outcomes = [lost.run("media", index) for index in range(2)]
    lost.stop()
    assert [outcome.kind for outcome in outcomes] == ["hang", "crash"]
    assert "-6" in outcomes[1].detail


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("traceback", lambda path: {}["missing"]),
        ("vague", lambda path: path.with_name("missing").read_text()),
        ("refused", lambda path: throw(DataError("one line"))),
        ("escape", lambda path: os.system("true")),
        ("escape", lambda path: path.parents[1].joinpath("escaped").touch()),
        ("memory", lambda path: bytearray(80 << 20).count(1)),
    ],
)
def test_every_kind_of_failure_is_told(plan, monkeypatch, watch, kind, action):
    few = worker.Plan(plan.seeds, plan.work, 3, worker.Limits(megabytes=60))
    for name, target in TARGETS.items():
        monkeypatch.setitem(TARGETS, name, replace(target, run=lambda path, output, seeds: action(path)))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert worker.run_case(few, "data", 0, watch).kind == kind
    shutil.rmtree(few.folder("data", 0))


def throw(error: Exception) -> None:
    raise error


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
