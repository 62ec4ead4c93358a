import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import lightning_fabric
import pytest
import torch
from safetensors.torch import load_file
from test_model import make, tiny

from lipsound2.config import AugmentConfig
from lipsound2.data.dataset import ClipDataset, Place
from lipsound2.data.shards import INDEX_NAME, read_index, to_lines
from lipsound2.errors import CheckpointError, ConfigError, DataError, StorageError, TrainingError
from lipsound2.model import Prediction
from lipsound2.model.norm import BatchNorm
from lipsound2.packs import find_pack
from lipsound2.runtime.claims import claim
from lipsound2.settings import read_settings
from lipsound2.training import loop
from lipsound2.training.config import MelLossConfig, TrainConfig
from lipsound2.training.lags import lateness
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe, scale_dropout
from lipsound2.training.run import make_fabric, run
from lipsound2.training.task import Validation
from lipsound2.training.tasks.lip2mel import MelTask, guided_attention, mel_statistics, off_diagonal

FAST = TrainConfig(epochs=2, batch_size=2, warmup=2, show_every=1)


def recipe(**train) -> Lip2MelRecipe:
    return Lip2MelRecipe(model=tiny(), train=replace(FAST, **train))


def cpu() -> lightning_fabric.Fabric:
    return make_fabric("cpu", 1, "32-true")


def still(settings: Lip2MelRecipe) -> Lip2MelRecipe:
    """A recipe without dropout and augmentation, whose steps depend on the clips of a batch alone."""
    encoder = replace(settings.model.encoder, dropout=0.0, lstm_dropout=0.0)
    decoder = replace(settings.model.decoder, dropout=0.0, prenet_dropout=0.0)
    postnet = replace(settings.model.postnet, dropout=0.0)
    model = replace(settings.model, encoder=encoder, decoder=decoder, postnet=postnet)
    taught = MelLossConfig(sampling_share=0.0, guided_weight=0.0)
    return replace(settings, model=model, augment=AugmentConfig(*[0.0] * 10), loss=taught)


def pretrain(prepared: Path, folder: Path, settings: Lip2MelRecipe) -> float:
    return run(settings, prepared, folder, None, cpu())


def finetune(prepared: Path, folder: Path, start: Path, settings: Lip2MelRecipe) -> float:
    return run(settings, prepared, folder, start, cpu())


def test_a_run_leaves_all_that_it_says(prepared, tmp_path):
    folder = tmp_path / "a run"
    error = pretrain(prepared, folder, recipe())
    assert math.isfinite(error)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert {"error", "off diagonal", "STOI", "ESTOI"} <= records[0].keys()
    assert min(record["score"] for record in records) == error
    assert (folder / "best" / "model.safetensors").is_file()
    assert read_settings(folder / "recipe.json", Lip2MelRecipe()) == recipe()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = EventAccumulator(str(folder / "logs"), size_guidance={"images": 0, "audio": 0})
    logged.Reload()
    assert {"train/before", "train/after", "train/guided", "val/error"} <= set(logged.Tags()["scalars"])
    assert logged.Tags()["images"] == ["mel", "alignment"]
    assert logged.Tags()["audio"] == ["speech"]
    # Nothing that could be a pickle.
    assert {p.suffix for p in folder.rglob("*") if p.is_file() and p.parent.name != "logs"} == {
        ".csv",
        ".json",
        ".jsonl",
        ".safetensors",
    }


def test_where_clips_are_kept_changes_nothing(prepared, tmp_path):
    plain = recipe(epochs=1)
    pretrain(prepared, tmp_path / "plain", plain)
    pretrain(prepared, tmp_path / "device", replace(plain, on_device=True))
    pretrain(prepared, tmp_path / "workers", recipe(epochs=1, workers=2))
    weights = [load_file(tmp_path / run / "best" / "model.safetensors") for run in ("plain", "device", "workers")]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][key], other[key]) for key in other)
    with pytest.raises(ConfigError, match="exclude"):
        replace(recipe(workers=2), on_device=True)


def test_dropout_is_scaled_for_the_run_only(prepared, tmp_path):
    pretrain(prepared, tmp_path / "as it is", recipe(epochs=1))
    pretrain(prepared, tmp_path / "none", replace(recipe(epochs=1), dropout=0.0))
    kept, changed = (tmp_path / run / "best" for run in ("as it is", "none"))
    assert (kept / "config.json").read_text() == (changed / "config.json").read_text()
    weights, others = (load_file(folder / "model.safetensors") for folder in (kept, changed))
    assert not all(torch.equal(weights[key], others[key]) for key in weights)
    model = make(tiny())
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout | torch.nn.Dropout3d)]
    before = [layer.p for layer in layers]
    scale_dropout(model, 0.5)
    assert max(before) > 0
    assert [layer.p for layer in layers] == [p / 2 for p in before]
    with pytest.raises(ConfigError, match="drops all"):
        scale_dropout(model, 100.0)
    with pytest.raises(ConfigError, match="dropout must be at least 0"):
        replace(recipe(), dropout=-1.0)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_resumed_run_equals_one_that_was_never_stopped_to_the_bit(prepared, tmp_path, monkeypatch, stop_at):
    pretrain(prepared, tmp_path / "whole", recipe(epochs=3, checkpoint_minutes=0.0))
    inner, steps = MelTask.loss, []

    def stopping(self, *args):
        steps.append(1)
        if len(steps) > stop_at:
            raise StoppedError
        return inner(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(MelTask, "loss", stopping)
        with pytest.raises(StoppedError):
            pretrain(prepared, tmp_path / "stopped", recipe(epochs=3, checkpoint_minutes=0.0))
    (tmp_path / "stopped" / "best" / "config.json").unlink()  # what else a run needs is made good
    pretrain(prepared, tmp_path / "stopped", recipe(epochs=3, checkpoint_minutes=0.0))
    assert (tmp_path / "stopped" / "best" / "config.json").is_file()
    for name in ("model.safetensors", "training.safetensors"):
        whole, stopped = (
            load_file(sorted((tmp_path / run / "checkpoints").iterdir())[-1] / name) for run in ("whole", "stopped")
        )
        assert whole.keys() == stopped.keys()
        assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_one_batch_can_be_learned_by_heart(prepared):
    torch.manual_seed(0)
    config = replace(tiny(), postnet=replace(tiny().postnet, dropout=0.0))
    config = replace(config, decoder=replace(config.decoder, lstm_dim=32, dropout=0.0, prenet_dropout=0.0))
    data = ClipDataset(prepared, "train", config.audio, config.video)
    model = make(config)
    model.set_statistics(*mel_statistics(data))
    task = MelTask(model.train(), data, data, MelLossConfig(guided_weight=0.0, sampling_to=0.0))
    whole = data.load([Place(0, 0), Place(0, 1)])
    # Half a second of each is enough to be learned.
    lengths = torch.tensor([12, 12])
    batch = whole._replace(
        video=whole.video[:, :, 20:32], video_lengths=lengths, mel=whole.mel[..., 80:128], mel_lengths=4 * lengths
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(80):
        loss, _ = task.loss(model, batch, 1.0, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.35 * losses[0]


def test_padding_does_not_count_in_the_loss(prepared):
    data = ClipDataset(prepared, "train", tiny().audio, tiny().video)
    model = make(tiny())
    task = MelTask(model, data, data, MelLossConfig(sampling_to=0.0))
    batch = data.load([Place(0, 0)])
    padded = batch._replace(
        video=torch.nn.functional.pad(batch.video, (0, 0, 0, 0, 0, 5), value=99),
        mel=torch.nn.functional.pad(batch.mel, (0, 20), value=7.0),
    )
    alone, _ = task.loss(model, batch, 0.5, torch.Generator())
    together, _ = task.loss(model, padded, 0.5, torch.Generator())
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


def test_finetuning_starts_from_the_model_it_is_given(prepared, tmp_path):
    pretrain(prepared, tmp_path / "base", recipe(epochs=1))
    frozen = replace(recipe(epochs=1), train=replace(FAST, epochs=1, learning_rate=1e-12, weight_decay=0.0))
    finetune(prepared, tmp_path / "tuned", tmp_path / "base", replace(frozen, model=None))
    other = replace(frozen, model=replace(tiny(), window=29))
    with pytest.raises(ConfigError, match=r"keeps the model that it starts from.*model\.window 30, not 29") as caught:
        finetune(prepared, tmp_path / "other", tmp_path / "base", other)
    assert "leave `model` out" in caught.value.hint
    base = load_file(tmp_path / "base" / "best" / "model.safetensors")
    tuned = load_file(tmp_path / "tuned" / "best" / "model.safetensors")
    for name, weights in base.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(tuned[name], weights)


def test_resuming_with_other_settings_is_refused_but_longer_is_fine(prepared, tmp_path):
    pretrain(prepared, tmp_path, recipe(epochs=1))
    with pytest.raises(ConfigError, match="begun with other settings"):
        pretrain(prepared, tmp_path, replace(recipe(), augment=AugmentConfig(flip=0.0)))
    with pytest.raises(ConfigError, match=r"begun with other settings: train\.batch_size 2, not 3"):
        pretrain(prepared, tmp_path, recipe(batch_size=3))
    with pytest.raises(ConfigError, match=r"train.optimizer adamw, not novograd; train.ema 0.998, not 0.5"):
        pretrain(prepared, tmp_path, recipe(ema=0.5, optimizer="novograd"))
    pretrain(prepared, tmp_path, recipe(epochs=2, learning_rate=1e-4))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def without_last(prepared: Path, folder: Path, split: str) -> Path:
    """A prepared folder less its last clip of a split."""
    shutil.copytree(prepared, folder)
    entries = read_index(folder)
    entries.remove([entry for entry in entries if entry.meta["split"] == split][-1])
    (folder / INDEX_NAME).write_text(to_lines(entries), encoding="utf-8")
    return folder


def test_a_run_is_bound_to_its_data_its_start_and_its_processes(prepared, tmp_path, capsys):
    folder = tmp_path / "run"
    pretrain(prepared, folder, recipe(epochs=1))
    count = len(ClipDataset(prepared, "train", tiny().audio, tiny().video))
    with pytest.raises(ConfigError, match=rf"other training data \({count} clips, not {count - 1}\)") as caught:
        pretrain(without_last(prepared, tmp_path / "fewer", "train"), folder, recipe(epochs=2))
    assert "another -o" in caught.value.hint
    with pytest.raises(ConfigError, match="begun with another model to start from"):
        finetune(prepared, folder, folder, recipe(epochs=2))
    begun = json.loads((folder / "begun.json").read_text())
    (folder / "begun.json").write_text(json.dumps(begun | {"processes": 2}))
    with pytest.raises(ConfigError, match="begun with 2 processes, not 1"):
        pretrain(prepared, folder, recipe(epochs=2))
    (folder / "begun.json").unlink()  # a run of an older version
    capsys.readouterr()
    pretrain(prepared, folder, recipe(epochs=1))
    assert "already finished: all 1 epochs are done; raise --epochs" in " ".join(capsys.readouterr().err.split())
    assert json.loads((folder / "begun.json").read_text()) == begun


def test_a_loss_that_is_not_finite_stops_with_advice(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(MelTask, "loss", lambda *_: (torch.tensor(torch.nan, requires_grad=True), {}))
    with pytest.raises(TrainingError, match="became nan at step") as caught:
        pretrain(prepared, tmp_path, recipe())
    assert "--lr" in caught.value.hint


def test_a_loss_that_grows_without_end_stops(prepared, tmp_path, monkeypatch):
    inner, steps = MelTask.loss, []

    def growing(self, *args):
        loss, parts = inner(self, *args)
        steps.append(1)
        return loss * 3.0 ** len(steps), parts

    monkeypatch.setattr(MelTask, "loss", growing)
    with pytest.raises(TrainingError, match="diverged"):
        pretrain(prepared, tmp_path, recipe(epochs=40))


def test_a_loss_that_diverges_once_is_taken_back_with_half_the_rate(prepared, tmp_path, monkeypatch, capsys):
    inner, calls = MelTask.loss, []

    def broken_once(self, *args):
        loss, parts = inner(self, *args)
        calls.append(1)
        return (loss * torch.nan if len(calls) == 6 else loss), parts

    monkeypatch.setattr(MelTask, "loss", broken_once)
    pretrain(prepared, tmp_path, recipe(epochs=4, batch_size=1, log_every=1))
    assert "half the learning rate" in " ".join(capsys.readouterr().err.split())
    (newest,) = sorted((tmp_path / "checkpoints").iterdir())[-1:]
    assert json.loads((newest / "training.json").read_text())["more"]["retries"] == 1
    assert all(torch.isfinite(weights).all() for weights in load_file(newest / "model.safetensors").values())


def test_gradients_of_two_batches_are_those_of_one_twice_as_large(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(BatchNorm, "train", lambda self, mode=True: torch.nn.Module.train(self, False))
    found = []
    for size, accumulate in ((4, 1), (2, 2)):
        settings = still(recipe(epochs=1, batch_size=size, accumulate=accumulate))
        pretrain(prepared, tmp_path / str(size), settings)
        found.append(load_file(tmp_path / str(size) / "best" / "model.safetensors"))
    for name, weights in found[0].items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(found[1][name], weights, atol=1e-4, rtol=1e-3)


def test_training_ends_when_validations_become_no_better(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(MelTask, "validate", lambda *_: Validation(1.0, {"error": 1.0}))
    pretrain(prepared, tmp_path, recipe(epochs=9, patience=2))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert "no improvement for 2 validations" in " ".join(capsys.readouterr().err.split())


def test_validation_by_updates_and_by_estoi(prepared, tmp_path):
    wanted = replace(recipe(epochs=2, batch_size=1, validate_steps=2), best="estoi", val_clips=1)
    pretrain(prepared, tmp_path, wanted)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows][:2] == [2, 4]
    assert all(row["score"] == -row["ESTOI"] for row in rows)
    assert all(row["updates a second"] > 0 and row["times real time"] > 0 for row in rows)
    assert all(0 <= row["waiting for data"] <= 1 for row in rows)


def test_lags_are_found_and_survive_a_resumed_run(prepared, tmp_path):
    data = ClipDataset(prepared, "train", tiny().audio, tiny().video)
    batch = data.load([Place(0, 0), Place(0, 1)])
    late = batch._replace(mel=torch.stack([torch.roll(batch.mel[0], 3, 1), torch.roll(batch.mel[1], -2, 1)]))
    prediction = Prediction(batch.mel, batch.mel, batch.mel_lengths, None)
    assert lateness(prediction, late, 5).tolist() == [3, -2]
    settings = replace(recipe(epochs=2), loss=MelLossConfig(lag_from=0.4, sampling_to=0.0))
    pretrain(prepared, tmp_path, settings)
    (newest,) = sorted((tmp_path / "checkpoints").iterdir())[-1:]
    kept = json.loads((newest / "training.json").read_text())["more"]["task"]
    assert set(kept["lags"]) == {entry.key for entry in data.entries}
    assert max(abs(lag) for lag in kept["lags"].values()) <= 10
    task = MelTask(make(tiny()), data, data, settings.loss)
    task.restore(kept)
    assert data.lags == kept["lags"]
    assert task.state() == kept


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_clip_stops_training_with_one_line(prepared, tmp_path, workers):
    folder = tmp_path / "damaged"
    shutil.copytree(prepared, folder)
    entry = next(entry for entry in read_index(folder) if entry.meta["split"] == "train")
    with (folder / entry.shard).open("r+b") as file:
        file.seek(entry.members["mp4"][0])
        file.write(bytes(entry.members["mp4"][1]))
    with pytest.raises(DataError, match=f"{entry.shard}: the clip {entry.meta['id']} is damaged") as caught:
        pretrain(folder, tmp_path / "run", recipe(workers=workers, cache_gb=0.0))
    assert "delete" in caught.value.hint


def test_two_trainings_do_not_share_a_folder(prepared, tmp_path):
    with claim(tmp_path, "training"), pytest.raises(StorageError, match=rf"another training \(process {os.getpid()}"):
        pretrain(prepared, tmp_path, recipe())


def test_guided_attention_knows_a_diagonal():
    diagonal = torch.eye(10)[None]
    lengths = torch.tensor([10])
    assert guided_attention(diagonal, lengths.float(), lengths, 0.1) == pytest.approx(0, abs=1e-6)
    wrong = torch.zeros(1, 10, 10)
    wrong[..., -1] = 1
    assert guided_attention(wrong, lengths.float(), lengths, 0.1) > 0.7
    assert off_diagonal(diagonal[0]) == 0
    assert off_diagonal(wrong[0]) == pytest.approx(4.5)


def test_the_correlation_term_is_taught_when_asked_for(prepared):
    data = ClipDataset(prepared, "train", tiny().audio, tiny().video)
    model = make(tiny())
    batch = data.load([Place(0, 0), Place(0, 1)])
    parts = {}
    for weight in (0.0, 0.5, 1.0):
        task = MelTask(model, data, data, MelLossConfig(correlation_weight=weight, sampling_to=0.0))
        with torch.no_grad():
            parts[weight] = task.loss(model, batch, 0.0, torch.Generator().manual_seed(0))[1]
    assert "correlation" not in parts[0.0]
    assert parts[0.5]["correlation"] > 0
    assert parts[1.0]["correlation"].item() == pytest.approx(2 * parts[0.5]["correlation"].item())


def test_training_looks_where_the_recipe_says(prepared, tmp_path):
    wide, narrow = replace(recipe(epochs=1), window=(8, 8, 144)), replace(recipe(epochs=1), window=(50, 80, 40))
    pretrain(prepared, tmp_path / "wide", wide)
    finetune(prepared, tmp_path / "narrow", tmp_path / "wide", narrow)
    for name, window in (("wide", (8, 8, 144)), ("narrow", (50, 80, 40))):
        assert find_pack(tmp_path / name).load_model().config.video == replace(tiny().video, window=window)


def test_sampling_share_rises_as_configured(prepared):
    data = ClipDataset(prepared, "train", tiny().audio, tiny().video)
    task = MelTask(make(tiny()), data, data, MelLossConfig(sampling_from=2.0, sampling_to=4.0, sampling_share=0.6))
    assert [task._sampling_share(epoch) for epoch in (0.0, 2.0, 3.0, 4.0, 9.0)] == pytest.approx([0, 0, 0.3, 0.6, 0.6])


def test_the_loop_names_no_model():
    text = Path(loop.__file__).read_text()
    assert "LipSound2" not in text.split('"""', 2)[2]


@pytest.mark.parametrize("change", [{"step": 1.5}, {"step": -1}, {"step": "1"}, {"best": []}, {"best": True}])
def test_a_checkpoint_that_makes_no_sense_is_one_line(prepared, tmp_path, change):
    pretrain(prepared, tmp_path, recipe(epochs=1))
    for path in (tmp_path / "checkpoints").glob("step-*/training.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"all checkpoints|not one of this model"):
        pretrain(prepared, tmp_path, recipe(epochs=2))
