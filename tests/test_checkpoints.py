"""Checkpoints are whole or do not count."""

import pytest
import torch

from lipsound2.errors import CheckpointError
from lipsound2.training.checkpoint import TrainingState, load_state, save_state


def state(step: int) -> TrainingState:
    weights = {"a": torch.full((2, 3), float(step)), "n": torch.tensor(step)}
    optimizer = {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2, 3)}}
    return TrainingState(step, 0.5, weights, weights, optimizer)


def test_checkpoints_come_back_and_only_the_newest_stay(tmp_path):
    for step in (1, 2, 3):
        save_state(tmp_path, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000003"]
    back = load_state(tmp_path)
    assert (back.step, back.best) == (3, 0.5)
    assert torch.equal(back.weights["a"], torch.full((2, 3), 3.0))
    assert torch.equal(back.slots[0]["exp_avg"], torch.ones(2, 3))
    assert load_state(tmp_path / "none") is None


def test_a_checkpoint_that_was_cut_off_while_written_does_not_count(tmp_path, monkeypatch):
    save_state(tmp_path, state(1))

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lipsound2.training.checkpoint.write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            save_state(tmp_path, state(2))
    assert load_state(tmp_path).step == 1
    (tmp_path / ".step-000000002.1.part").mkdir()
    assert load_state(tmp_path).step == 1


def test_a_damaged_checkpoint_is_one_error(tmp_path):
    save_state(tmp_path, state(1))
    path = tmp_path / "step-000000001" / "training.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=r"all checkpoints in .* are damaged") as caught:
        load_state(tmp_path)
    assert "begin anew" in caught.value.hint


@pytest.mark.parametrize("name", ["training.safetensors", "model.safetensors", "training.json"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, name, capsys):
    for step in (1, 2):
        save_state(tmp_path, state(step))
    path = tmp_path / "step-000000002" / name
    path.write_bytes(path.read_bytes()[:20])
    assert load_state(tmp_path).step == 1
    assert "step-000000002 is damaged" in " ".join(capsys.readouterr().err.split())
    save_state(tmp_path, state(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
