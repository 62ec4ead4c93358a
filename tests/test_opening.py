"""What a run says as it begins, what it keeps of its start, and how it ends when it is asked to."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_model import make, tiny
from test_packs import pack, run
from test_training import finetune, pretrain, recipe

from lipsound2.config import to_json
from lipsound2.data.shards import INDEX_NAME, read_index, to_lines
from lipsound2.errors import DataError, TrainingError
from lipsound2.packs import find_pack
from lipsound2.packs.history import history_of, read_history, write_history
from lipsound2.packs.pack import write_sums
from lipsound2.runtime.weights import save_weights
from lipsound2.training.checkpoint import load_state
from lipsound2.training.loop import Trainer
from lipsound2.training.tasks.lip2mel import MelTask

__all__ = ["pack", "run"]


def some(prepared: Path, folder: Path, clips: int) -> Path:
    """Link a prepared folder with fewer clips."""
    folder.mkdir()
    entries = [replace(each, meta={**each.meta, "split": "train"}) for each in read_index(prepared)[:clips]]
    for shard in {entry.shard for entry in entries}:
        (folder / shard).symlink_to(prepared / shard)
    (folder / INDEX_NAME).write_text(to_lines(entries))
    return folder


def test_a_run_says_what_it_trains_with_and_keeps_the_names_of_its_clips(prepared, tmp_path, capsys):
    pretrain(prepared, tmp_path / "run", recipe(epochs=1))
    said = capsys.readouterr().err
    entries = {
        split: [e for e in read_index(prepared) if e.meta["split"] == split] for split in ("train", "val", "test")
    }
    minutes = sum(entry.meta["frames"] for entry in entries["train"]) / 25 / 60
    assert f"training on cpu: {len(entries['train'])} clips ({minutes:.1f} minutes), validation" in said
    assert "M parameters in LipSound2" in said
    assert "error: mean squared error of the log-mel" in said
    assert "to train on are little" in said
    kept = read_history(tmp_path / "run")
    assert {split: kept.count(split) for split in entries} == {split: len(found) for split, found in entries.items()}
    assert kept.has_audio


def test_one_clip_is_too_few_to_hold_one_out(prepared, tmp_path):
    with pytest.raises(DataError, match="holds 1 clip only, so that none is left to validate on") as caught:
        pretrain(some(prepared, tmp_path / "one", 1), tmp_path / "run", recipe(epochs=1))
    assert "prepare more videos" in caught.value.hint


def test_two_clips_are_trained_on_with_a_warning(prepared, tmp_path, capsys):
    pretrain(some(prepared, tmp_path / "two", 2), tmp_path / "run", recipe(epochs=1))
    assert "warning: 1 clip (" in capsys.readouterr().err


def test_a_fine_tuned_run_keeps_vocoder_recogniser_and_history(prepared, pack, tmp_path, capsys):
    for part in ("recognizer", "waveglow"):
        (pack / part).mkdir()
        save_weights(pack / part / "model.safetensors", make(tiny()).state_dict())
        (pack / part / "config.json").write_text(to_json(tiny()))
    every = read_index(prepared)
    write_history(pack, history_of(every, []))
    write_sums(pack)
    finetune(prepared, tmp_path / "tuned", pack, replace(recipe(epochs=1), model=None))
    found = find_pack(tmp_path / "tuned")
    assert found.recognizer == tmp_path / "tuned" / "recognizer"
    assert found.waveglow == tmp_path / "tuned" / "waveglow"
    assert found.info.trained_on == "a training run from mine"
    assert found.history.count("train") == len(every)
    val = sum(entry.meta["split"] == "val" for entry in every)
    assert f"was trained on {val} of {val} validation clips" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_the_step_and_goes_on_from_there(prepared, tmp_path, monkeypatch, capsys, number):
    inner, steps = MelTask.loss, []

    def interrupting(self, *args):
        steps.append(1)
        if len(steps) == 1:
            os.kill(os.getpid(), number)
        return inner(self, *args)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, end)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(MelTask, "loss", interrupting)
            with pytest.raises(KeyboardInterrupt):
                pretrain(prepared, tmp_path, recipe(epochs=2))
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
    assert f"{number.name}: training ends with a checkpoint after this step" in capsys.readouterr().err
    state = load_state(tmp_path / "checkpoints")
    assert state is not None
    assert state.step == 1
    pretrain(prepared, tmp_path, recipe(epochs=2))
    assert "at step 1" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_not_saved(prepared, tmp_path, monkeypatch):
    inner = Trainer.apply

    def broken(self):
        inner(self)
        if self.step == 2:
            with torch.no_grad():
                self.parameters[0].fill_(float("nan"))

    monkeypatch.setattr(Trainer, "apply", broken)
    with pytest.raises(TrainingError, match="not finite at step 2"):
        pretrain(prepared, tmp_path, recipe(epochs=3, checkpoint_minutes=0.0))
    state = load_state(tmp_path / "checkpoints")
    assert state is not None
    assert state.step == 1
    assert all(torch.isfinite(tensor).all() for tensor in state.weights.values())


def test_a_fault_of_one_process_is_not_taken_for_a_lost_one():
    from lipsound2.training.loop import _lost

    assert _lost(RuntimeError("[gloo/transport/tcp/pair.cc:525] Read error: Connection reset by peer"))
    assert _lost(torch.distributed.DistNetworkError("no answer"))
    assert not _lost(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))


def test_pictures_come_with_the_first_validation(prepared, tmp_path, monkeypatch):
    shown = []
    inner = MelTask.validate
    monkeypatch.setattr(
        MelTask, "validate", lambda self, model, show: (shown.append(show), inner(self, model, False))[1]
    )
    pretrain(prepared, tmp_path, recipe(epochs=5, show_every=4))
    assert shown == [True, False, False, True, False]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["epoch"] == 1
