"""`--plan`: what a run will take, against what a run took."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_training import FAST, cpu, pretrain, recipe
from typer.testing import CliRunner

from lipsound2.cli import app
from lipsound2.config import to_json
from lipsound2.data.cache import ClipCache
from lipsound2.errors import ConfigError
from lipsound2.training.config import TrainConfig
from lipsound2.training.forecast import Forecast, _Schedule, forecast, to_table
from lipsound2.training.run import Sources, make_fabric


def planned(prepared: Path, output: Path, settings=None, processes: int = 1) -> Forecast:
    return forecast(settings or recipe(), Sources(prepared), output, None, cpu(), processes, measured=0.0)


def test_a_plan_says_what_a_run_has(prepared, tmp_path):
    plan = planned(prepared, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    pretrain(prepared, tmp_path / "run", recipe())
    (*_, last) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert plan.updates == json.loads(last)["step"] == 2 * plan.updates_per_epoch
    assert plan.validations == 2
    checkpoint = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    written = sum(path.stat().st_size for path in checkpoint.iterdir())
    assert plan.checkpoint == pytest.approx(written, rel=0.01)
    best = (tmp_path / "run" / "best" / "model.safetensors").stat().st_size
    assert plan.disk == pytest.approx(3 * written + best, rel=0.01)
    assert plan.average == plan.weights > 4 * plan.parameters
    assert plan.gradients == 4 * plan.parameters
    assert 2 * plan.gradients < plan.optimizer < 2 * plan.gradients + 10_000
    assert 0 < plan.host_peak < plan.host_total
    assert plan.seconds > plan.updates_per_epoch * plan.seconds_per_update
    assert 0 < plan.clips < sum(path.stat().st_size for path in prepared.glob("*.tar"))


def test_several_processes_are_an_estimate_from_one(prepared, tmp_path):
    one, four = (planned(prepared, tmp_path, processes=count) for count in (1, 4))
    assert (one.examples, one.updates_per_epoch) == (four.examples, -(-one.examples // 2))
    assert four.updates_per_epoch == -(-one.examples // 8)
    told = to_table(four, FAST, tmp_path)
    assert "for 4 processes: one was measured, without their exchange of gradients" in told
    assert "estimate" not in to_table(one, FAST, tmp_path)


def test_time_is_added_up_of_updates_validations_and_checkpoints():
    schedule = _Schedule(TrainConfig(epochs=3, validate_every=2, checkpoint_minutes=1.0), 50)
    assert (schedule.updates, schedule.validations) == (150, 2)
    training = 50 * 2.0 + 100 * 1.0
    assert schedule.seconds(2.0, 1.0, 7.0, 0.5) == training + 2 * 7.5 + 3 * 0.5
    assert _Schedule(TrainConfig(epochs=3, validate_steps=40), 50).validations == 4


def test_a_cache_tells_which_share_has_room(prepared, tmp_path):
    cache = ClipCache(4e-6)
    assert cache.share(10) == 0.0
    import torch

    for number in range(10):
        cache.get(number, lambda _: (torch.zeros(1000, dtype=torch.uint8),))
    assert cache.share(10) == 0.4
    assert cache.share(2) == 1.0


def test_the_command_prints_a_table_or_facts_and_writes_nothing(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("lipsound2.training.forecast.MEASURED", 0.0)
    (tmp_path / "recipe.json").write_text(to_json(recipe()))
    words = [
        "pretrain",
        str(prepared),
        "-o",
        str(tmp_path / "run"),
        "--recipe",
        str(tmp_path / "recipe.json"),
        "--plan",
    ]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    for row in ("measured", "updates", "in all", "device memory", "host memory", "disk"):
        assert f"\n  {row} " in done.stdout
    assert not (tmp_path / "run").exists()


def test_a_plan_is_made_in_one_process(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    fabric = make_fabric("cpu", 1, "32-true")
    with pytest.raises(ConfigError, match="measures one process"):
        forecast(replace(recipe()), Sources(prepared), tmp_path, None, fabric)
