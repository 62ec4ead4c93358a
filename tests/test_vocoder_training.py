import json
from dataclasses import replace
from pathlib import Path

import lightning_fabric
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_model import make as make_lips
from test_model import tiny as tiny_lips
from typer.testing import CliRunner

from lipsound2.audio import log_mel
from lipsound2.cli.vocoders import app
from lipsound2.config import AudioConfig, TrainConfig, audio_16k, audio_22k, to_json
from lipsound2.data.dataset import Place
from lipsound2.errors import CheckpointError, ConfigError, DataError
from lipsound2.runtime.weights import save_weights
from lipsound2.training.forced import forced_mels
from lipsound2.training.runs import make_fabric
from lipsound2.training.segments import STEP, SegmentDataset
from lipsound2.training.vocode import VocoderTask
from lipsound2.training.vocoder_runs import (
    VocoderRecipe,
    find_waveglow,
    finetune_vocoder,
    finetune_vocoder_recipe,
    mels_of,
    read_vocoder_recipe,
    train_vocoder,
    vocoder_recipe,
)
from lipsound2.vocoder.config import VocoderLossConfig, WaveGlowConfig, waveglow_256, waveglow_small
from lipsound2.vocoder.synthesis import load_waveglow, waveglow_folder
from lipsound2.vocoder.waveglow import WaveGlow

ROOT = Path(__file__).parents[1]


def tiny(**sizes) -> WaveGlowConfig:
    small = {"group": 40, "flows": 2, "early_size": 0, "layers": 1, "channels": 8, "condition": 8, "prediction": 4}
    return WaveGlowConfig(audio=audio_16k(), mel_mean=-5.0, mel_std=2.0, **small | sizes)


def recipe(loss: VocoderLossConfig | None = None, **train) -> VocoderRecipe:
    settings = TrainConfig(epochs=2, batch_size=2, warmup=2, show_every=2, weight_decay=0.0)
    return VocoderRecipe(tiny(), replace(settings, **train), loss or VocoderLossConfig(segment=20, spectral_weight=0.5))


def cpu(precision: str = "32-true") -> lightning_fabric.Fabric:
    return make_fabric("cpu", 1, precision)


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a vocoder"
    train_vocoder(prepared, folder, recipe(), cpu())
    return folder


@pytest.fixture(scope="module")
def lips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lips")
    (folder / "best").mkdir()
    (folder / "best" / "config.json").write_text(to_json(tiny_lips()))
    save_weights(folder / "best" / "model.safetensors", make_lips(tiny_lips()).state_dict())
    return folder


def test_a_run_leaves_all_that_it_says(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert {"likelihood", "spectral", "loss", "mel error", "STOI", "ESTOI"} <= records[0].keys()
    assert records[0]["score"] == pytest.approx(records[0]["likelihood"] + records[0]["spectral"])
    assert records[1]["score"] < records[0]["score"]
    model = load_waveglow(waveglow_folder(run))
    assert model.config == tiny()
    assert read_vocoder_recipe(run / "recipe.json") == recipe()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = EventAccumulator(str(run / "logs"), size_guidance={"images": 0, "audio": 0})
    logged.Reload()
    assert {"train/likelihood", "train/spectral", "val/mel error", "val/STOI"} <= set(logged.Tags()["scalars"])
    assert logged.Tags()["images"] == ["mel"]
    assert "speech 0" in logged.Tags()["audio"]


def test_a_trained_model_still_inverts(run):
    model = load_waveglow(waveglow_folder(run))
    wave = 0.1 * torch.randn(1, 3200)
    mel = log_mel(wave, audio_16k())
    torch.testing.assert_close(model.infer(mel, model(wave, mel).z), wave, atol=1e-3, rtol=0)
    double = model.double()
    wave, mel = wave.double(), mel.double()
    torch.testing.assert_close(double.infer(mel, double(wave, mel).z), wave, atol=1e-6, rtol=0)


class StoppedError(Exception):
    pass


def test_a_resumed_run_equals_one_that_was_never_stopped_to_the_bit(prepared, run, tmp_path, monkeypatch):
    inner, steps = VocoderTask.loss, []

    def stopping(self, *args):
        steps.append(1)
        if len(steps) > 3:
            raise StoppedError
        return inner(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(VocoderTask, "loss", stopping)
        with pytest.raises(StoppedError):
            train_vocoder(prepared, tmp_path, recipe(), cpu())
    train_vocoder(prepared, tmp_path, recipe(), cpu())
    newest = [sorted((folder / "checkpoints").iterdir())[-1] for folder in (run, tmp_path)]
    for name in ("model.safetensors", "training.safetensors"):
        whole, stopped = (load_file(folder / name) for folder in newest)
        assert whole.keys() == stopped.keys()
        assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_other_settings_are_refused_when_a_run_is_resumed(prepared, run):
    with pytest.raises(ConfigError, match="was begun with other settings"):
        train_vocoder(prepared, run, recipe(VocoderLossConfig(segment=30)), cpu())


def test_half_precision_trains_and_keeps_the_wave_whole(prepared, tmp_path, monkeypatch):
    seen = []
    inner = WaveGlow.forward

    def watching(self, wave, *args):
        seen.append(wave.dtype)
        return inner(self, wave, *args)

    monkeypatch.setattr(WaveGlow, "forward", watching)
    score = train_vocoder(prepared, tmp_path, recipe(precision="bf16-mixed", epochs=1), cpu("bf16-mixed"))
    assert np.isfinite(score)
    assert set(seen) == {torch.float32}


def test_the_likelihood_alone_is_the_papers(prepared, tmp_path):
    train_vocoder(prepared, tmp_path, recipe(VocoderLossConfig(segment=20), epochs=1), cpu())
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert record["score"] == record["likelihood"]
    assert "spectral" not in record


def test_one_batch_is_learned_by_heart(prepared):
    torch.manual_seed(0)
    data = SegmentDataset(prepared, "train", audio_16k(), 20, 4)
    task = VocoderTask(WaveGlow(tiny(channels=24, flows=4)), data, data, VocoderLossConfig())
    batch = task.collate([data[Place(0, i)] for i in range(2)])
    optimizer = torch.optim.Adam(task.model.parameters(), 3e-3)
    losses = []
    for _ in range(80):
        loss, _ = task.loss(task.model, batch, 0.0, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


def test_segments_are_stretches_of_clips_with_what_came_before(prepared):
    data = SegmentDataset(prepared, "train", audio_16k(), 30, 16, seed=3)
    for clip in range(2):
        segment = data[Place(5, clip)]
        wave, mel = data.heard(clip)
        assert (segment.wave.shape, segment.mel.shape, segment.past.shape) == ((4800,), (80, 30), (16,))
        first = next(i for i in range(mel.shape[1]) if torch.equal(mel[:, i], segment.mel[:, 0]))
        assert torch.equal(segment.mel, mel[:, first : first + 30])
        expected = torch.cat([torch.zeros(16), wave])[first * 160 : first * 160 + 4816]
        error = torch.cat([segment.past, segment.wave]) - expected
        assert 0.4 * STEP < error.abs().max() <= 0.5 * STEP
        again, other = data[Place(5, clip)], data[Place(6, clip)]
        assert torch.equal(again.wave, segment.wave)
        assert not torch.equal(other.wave, segment.wave)


def test_clips_shorter_than_a_segment_are_continued_by_silence(prepared):
    data = SegmentDataset(prepared, "train", audio_16k(), 1000, 4)
    segment = data[Place(0, 0)]
    assert segment.wave.shape == (160_000,)
    assert segment.wave[-1000:].abs().max() < STEP
    assert segment.wave.abs().max() > 0.01


def test_data_that_does_not_fit_is_refused(prepared):
    with pytest.raises(ConfigError, match="the vocoder takes 22050 Hz"):
        SegmentDataset(prepared, "train", audio_22k(), 10)
    with pytest.raises(DataError, match="no clip of split"):
        SegmentDataset(prepared, "train", audio_16k(), 10, speakers=("nobody",))


def test_forced_mels_are_those_of_teacher_forcing(prepared, lips):
    data = SegmentDataset(prepared, "train", audio_16k(), 20)
    model = make_lips(tiny_lips())
    found = forced_mels(model, prepared, data.entries[:1])
    entry = data.entries[0]
    made, true = found[entry.key], data.heard(0).mel
    assert made.shape == (80, int(str(entry.meta["frames"])) * 4)
    from lipsound2.data.sample import decode_crops
    from lipsound2.data.shards import read_member
    from lipsound2.model.preprocess import view

    crops = torch.from_numpy(decode_crops(read_member(prepared, entry, "mp4"), "gray"))[30:60]
    size = len(crops)
    assert 0 < size < 30
    video = view(crops[:, None], tiny_lips().video)[None]
    with torch.inference_mode():
        forced = model(video, torch.tensor([size]), true[None, :, 120:]).after[0]
        free = model(video, torch.tensor([size])).after[0]
    torch.testing.assert_close(made[:, 120:], forced, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(made[:, 120:], free, atol=1e-2)


def test_fine_tuning_goes_on_with_the_mels_of_a_model(prepared, run, lips, tmp_path):
    settings = replace(recipe(epochs=1), loss=VocoderLossConfig(segment=20, generated_share=1.0))
    mels = mels_of(lips, prepared, run, settings, "cpu")
    data = SegmentDataset(prepared, "train", audio_16k(), 20)
    true = data[Place(0, 0)].mel
    data.use_generated(mels, 1.0)
    made = data[Place(0, 0)].mel
    assert not torch.allclose(made, true)
    assert any(torch.equal(made[:, 0], column) for column in mels[data.entries[0].key].T)
    score = finetune_vocoder(prepared, tmp_path, run, settings, cpu(), mels)
    assert np.isfinite(score)
    before, after = (load_waveglow(find_waveglow(folder)) for folder in (run, tmp_path))
    assert before.config == after.config
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    # The true mels differ from the made ones, and so does what is validated.
    other = tmp_path / "true"
    assert finetune_vocoder(prepared, other, run, settings, cpu()) != score


def test_mels_of_another_kind_are_refused(prepared, lips, tmp_path):
    config = tiny(prediction=0)
    best = tmp_path / "best"
    best.mkdir()
    model = WaveGlow(replace(config, audio=AudioConfig(win_length=800)))
    (best / "config.json").write_text(to_json(model.config))
    save_weights(best / "model.safetensors", model.state_dict())
    with pytest.raises(ConfigError, match="the model makes mels of 16000 Hz"):
        mels_of(lips, prepared, tmp_path, recipe(), "cpu")


def test_presets_and_the_recipe_of_the_repository(tmp_path):
    assert vocoder_recipe().model == waveglow_small()
    assert vocoder_recipe("nvidia").model == waveglow_256()
    assert finetune_vocoder_recipe().train.learning_rate < vocoder_recipe().train.learning_rate
    assert read_vocoder_recipe(ROOT / "recipes" / "waveglow-s1.json").model == waveglow_small()


def test_the_commands_train_and_fine_tune(prepared, lips, tmp_path):
    (tmp_path / "recipe.json").write_text(to_json(recipe(epochs=1)))
    common = [str(prepared), "--recipe", str(tmp_path / "recipe.json"), "--device", "cpu", "--clips", "2"]
    done = CliRunner().invoke(app, ["train", *common, "-o", str(tmp_path / "own")])
    assert done.exit_code == 0, done.exception
    assert f"{tmp_path / 'own'}: best loss" in done.stdout
    more = ["--from", str(tmp_path / "own"), "--mels-of", str(lips), "-o", str(tmp_path / "tuned"), "--epochs", "2"]
    done = CliRunner().invoke(app, ["finetune", *common, *more])
    assert done.exit_code == 0, done.exception
    assert read_vocoder_recipe(tmp_path / "tuned" / "recipe.json").train.epochs == 2
    done = CliRunner().invoke(app, ["finetune", *common, "--from", str(tmp_path)])
    assert isinstance(done.exception, CheckpointError)
