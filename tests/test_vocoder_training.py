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
from lipsound2.cli.training import vocoder as app
from lipsound2.config import AudioConfig, audio_16k, audio_22k, to_json
from lipsound2.data.dataset import Place
from lipsound2.data.shards import read_index
from lipsound2.errors import CheckpointError, ConfigError, DataError
from lipsound2.packs import find_pack
from lipsound2.runtime.graphs import plainly
from lipsound2.runtime.weights import save_weights
from lipsound2.settings import read_settings
from lipsound2.training import generated_mels
from lipsound2.training.config import TrainConfig
from lipsound2.training.generated_mels import GeneratedMels, decode_mel, encode_mel, generate_mels, teacher_forced_mel
from lipsound2.training.recipes.vocoder import (
    VocoderRecipe,
    find_waveglow,
    finetune_vocoder_recipe,
    mels_for,
    vocoder_recipe,
)
from lipsound2.training.run import Sources, make_fabric
from lipsound2.training.run import run as train
from lipsound2.training.segments import STEP, Segment, SegmentDataset
from lipsound2.training.tasks.vocoder import VocoderTask
from lipsound2.vocoder.config import VocoderLossConfig, WaveGlowConfig, waveglow_256, waveglow_medium, waveglow_small
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
    train(recipe(), prepared, folder, None, cpu())
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
    assert read_settings(run / "recipe.json", VocoderRecipe()) == recipe()
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
            train(recipe(), prepared, tmp_path, None, cpu())
    train(recipe(), prepared, tmp_path, None, cpu())
    newest = [sorted((folder / "checkpoints").iterdir())[-1] for folder in (run, tmp_path)]
    for name in ("model.safetensors", "training.safetensors"):
        whole, stopped = (load_file(folder / name) for folder in newest)
        assert whole.keys() == stopped.keys()
        assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_other_settings_are_refused_when_a_run_is_resumed(prepared, run):
    with pytest.raises(ConfigError, match="was begun with other settings"):
        train(recipe(VocoderLossConfig(segment=30)), prepared, run, None, cpu())


def test_half_precision_trains_and_keeps_the_wave_whole(prepared, tmp_path, monkeypatch):
    seen = []
    inner = WaveGlow.forward

    def watching(self, wave, *args):
        seen.append(wave.dtype)
        return inner(self, wave, *args)

    monkeypatch.setattr(WaveGlow, "forward", watching)
    score = train(recipe(precision="bf16-mixed", epochs=1), prepared, tmp_path, None, cpu("bf16-mixed"))
    assert np.isfinite(score)
    assert set(seen) == {torch.float32}


def test_the_likelihood_alone_is_the_papers(prepared, tmp_path):
    train(recipe(VocoderLossConfig(segment=20), epochs=1), prepared, tmp_path, None, cpu())
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert record["score"] == record["likelihood"]
    assert "spectral" not in record


def test_one_batch_is_learned_by_heart(prepared):
    torch.manual_seed(0)
    data = SegmentDataset(prepared, "train", audio_16k(), 20, 4)
    task = VocoderTask(WaveGlow(tiny(channels=24, flows=4)), data, data, VocoderLossConfig())
    batch = task.ready([Place(0, 0), Place(0, 1)], torch.device("cpu"))
    optimizer = torch.optim.Adam(task.model.parameters(), 3e-3)
    losses = []
    for _ in range(80):
        loss, _ = task.loss(task.model, batch, 0.0, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


def one(data: SegmentDataset, epoch: int, clip: int) -> Segment:
    return Segment(*(part[0] for part in data.draw([Place(epoch, clip)])))


@pytest.mark.parametrize("held", [False, True], ids=["clip by clip", "all at once"])
def test_segments_are_stretches_of_clips_with_what_came_before(prepared, held):
    data = SegmentDataset(prepared, "train", audio_16k(), 30, 16, seed=3)
    if held:
        data.hold(torch.device("cpu"))
    for clip in range(2):
        segment = one(data, 5, clip)
        wave, mel = data.recording(clip)
        assert (segment.wave.shape, segment.mel.shape, segment.past.shape) == ((4800,), (80, 30), (16,))
        first = next(i for i in range(mel.shape[1]) if torch.equal(mel[:, i], segment.mel[:, 0]))
        assert torch.equal(segment.mel, mel[:, first : first + 30])
        expected = torch.cat([torch.zeros(16), wave])[first * 160 : first * 160 + 4816]
        error = torch.cat([segment.past, segment.wave]) - expected
        assert 0.4 * STEP < error.abs().max() <= 0.5 * STEP
        again, other = one(data, 5, clip), one(data, 6, clip)
        assert torch.equal(again.wave, segment.wave)
        assert not torch.equal(other.wave, segment.wave)


def test_segments_are_the_same_wherever_they_are_kept(prepared):
    made = {
        entry.key: torch.full((80, 40), 1.0) for entry in SegmentDataset(prepared, "train", audio_16k(), 20).entries
    }
    drawn = []
    for held, room in ((False, 2.0), (True, 2.0), (True, 0.0)):
        data = SegmentDataset(prepared, "train", audio_16k(), 20, 4, cache_gb=room, segments=3)
        data.use_generated(made, 0.5)
        if held:
            data.hold(torch.device("cpu"))
        drawn.append(data.draw([Place(2, place) for place in range(len(data))]))
    assert len(data) == 3 * len(data.entries)
    for other in drawn[1:]:
        assert all(torch.equal(a, b) for a, b in zip(drawn[0], other, strict=True))


def test_clips_shorter_than_a_segment_are_continued_by_silence(prepared):
    segment = one(SegmentDataset(prepared, "train", audio_16k(), 1000, 4), 0, 0)
    assert segment.wave.shape == (160_000,)
    assert segment.wave[-1000:].abs().max() < STEP
    assert segment.wave.abs().max() > 0.01


@pytest.mark.parametrize("spectral", [0.0, 0.5])
def test_a_step_with_fixed_buffers_is_the_same_step(prepared, spectral):
    """All that a CUDA graph does but its capture: it reads and writes the same memory at each step."""
    settings = VocoderLossConfig(segment=20, spectral_weight=spectral)
    data = SegmentDataset(prepared, "train", audio_16k(), 20, 4)
    gradients = []
    for record in (None, plainly):
        torch.manual_seed(0)
        task = VocoderTask(WaveGlow(tiny(channels=12, flows=3, layers=2)), data, data, settings, record=record)
        optimizer = torch.optim.SGD(task.model.parameters(), 1e-3)
        for step in range(4):
            optimizer.zero_grad()
            # The last batch has another shape.
            places = [Place(step, clip) for clip in range(1 if step == 3 else 2)]
            batch = task.ready(places, torch.device("cpu"))
            loss, parts = task.loss(task.model, batch, 0.0, torch.Generator().manual_seed(step))
            (2 * loss).backward()
            optimizer.step()
            gradients.append([parameter.grad.clone() for parameter in task.model.parameters()])
            assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()))
    for once, again in zip(gradients[:4], gradients[4:], strict=True):
        for first, second in zip(once, again, strict=True):
            torch.testing.assert_close(first, second)


def test_data_that_does_not_fit_is_refused(prepared):
    with pytest.raises(ConfigError, match="the vocoder takes 22050 Hz"):
        SegmentDataset(prepared, "train", audio_22k(), 10)
    with pytest.raises(DataError, match="no clip of"):
        SegmentDataset(prepared, "train", audio_16k(), 10, speakers=("nobody",))


def test_forced_mels_are_those_of_teacher_forcing(prepared, lips):
    data = SegmentDataset(prepared, "train", audio_16k(), 20)
    model = make_lips(tiny_lips())
    entry = data.entries[0]
    generated, reference = teacher_forced_mel(model, prepared, entry), data.recording(0).mel
    assert generated.shape == (80, int(str(entry.meta["frames"])) * 4)
    from lipsound2.data.sample import decode_crops
    from lipsound2.data.shards import read_member
    from lipsound2.model.preprocess import view

    crops = torch.from_numpy(decode_crops(read_member(prepared, entry, "mp4"), "gray"))[30:60]
    size = len(crops)
    assert 0 < size < 30
    video = view(crops[:, None], tiny_lips().video)[None]
    with torch.inference_mode():
        teacher_forced = model(video, torch.tensor([size]), reference[None, :, 120:]).after[0]
        free = model(video, torch.tensor([size])).after[0]
    torch.testing.assert_close(generated[:, 120:], teacher_forced, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(generated[:, 120:], free, atol=1e-2)


def test_fine_tuning_goes_on_with_the_mels_of_a_model(prepared, run, lips, tmp_path):
    settings = replace(recipe(epochs=1), loss=VocoderLossConfig(segment=20, generated_share=1.0))
    folder = tmp_path / "generated"
    mels_for(run, lips, prepared, folder, settings, "cpu")
    mels = GeneratedMels(folder, audio_16k())
    data = SegmentDataset(prepared, "train", audio_16k(), 20)
    true = one(data, 0, 0).mel
    data.use_generated(mels, 1.0)
    made = one(data, 0, 0).mel
    assert not torch.allclose(made, true)
    assert any(torch.equal(made[:, 0], column) for column in mels[data.entries[0].key].T)
    score = train(settings, Sources(prepared, folder), tmp_path / "made", run, cpu())
    assert np.isfinite(score)
    before, after = (load_waveglow(find_waveglow(folder)) for folder in (run, tmp_path / "made"))
    assert before.config == after.config
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    # Reference mels differ from generated ones, and so does what is validated.
    plain = recipe(VocoderLossConfig(segment=20), epochs=1)
    assert train(plain, prepared, tmp_path / "true", run, cpu()) != score
    with pytest.raises(ConfigError, match="begun with other settings"):
        train(plain, prepared, tmp_path / "made", run, cpu())
    path = tmp_path / "made" / "begun.json"
    begun = json.loads(path.read_text())
    assert begun.pop("generated")
    path.write_text(json.dumps(begun | {"mels": "a digest as older versions wrote it"}))
    assert train(settings, Sources(prepared, folder), tmp_path / "made", run, cpu()) == score
    for old in ({"mels": ""}, {"generated": "another"}):
        path.write_text(json.dumps(begun | old))
        with pytest.raises(ConfigError, match="begun with other generated mels"):
            train(settings, Sources(prepared, folder), tmp_path / "made", run, cpu())
    with pytest.raises(ConfigError, match="generated_share does nothing without generated mels"):
        train(settings, prepared, tmp_path / "none", run, cpu())


def test_a_kept_mel_is_the_generated_one_to_four_thousandths():
    mel = torch.rand(80, 50) * 14 - 11.5
    data = encode_mel(mel)
    back = decode_mel(data, 80)
    assert (back - mel).abs().max() <= 0.004
    assert back.dtype == torch.float32
    for damaged in (data[:-1], data[:40], b"", b"x" * 200, encode_mel(mel[:40])):
        with pytest.raises(DataError, match=r"its mel|a mel of 80 bins"):
            decode_mel(damaged, 80)


def test_generated_mels_are_kept_and_taken_up_where_they_were_stopped(prepared, lips, tmp_path, monkeypatch):
    real, made = generated_mels.teacher_forced_mel, []

    def stopping(model, folder, entry):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(entry.key)
        return real(model, folder, entry)

    monkeypatch.setattr(generated_mels, "teacher_forced_mel", stopping)
    with pytest.raises(KeyboardInterrupt):
        generate_mels(prepared, lips, tmp_path, audio_16k(), clips=2)
    made.append("stopped")
    generate_mels(prepared, lips, tmp_path, audio_16k(), clips=2)
    mels = GeneratedMels(tmp_path, audio_16k())
    assert len(made) - 1 == len(set(made)) - 1 == len(mels), "none was made twice"
    assert {entry.meta["split"] for entry in read_index(tmp_path)} == {"train", "val"}
    key = next(iter(mels))
    entry = next(entry for entry in SegmentDataset(prepared, "train", audio_16k(), 20).entries if entry.key == key)
    torch.testing.assert_close(mels[key], real(find_pack(lips).load_model(), prepared, entry), atol=0.004, rtol=0)
    generate_mels(prepared, lips, tmp_path, audio_16k(), clips=2)
    with pytest.raises(DataError, match="other clips"):
        generate_mels(prepared, lips, tmp_path, audio_16k(), clips=1)
    with pytest.raises(ConfigError, match="mels of other settings"):
        GeneratedMels(tmp_path, audio_22k())


def test_a_clip_without_a_generated_mel_is_heard_with_its_true_one(prepared):
    data = SegmentDataset(prepared, "train", audio_16k(), 20)
    data.use_generated({"another": torch.zeros(80, 9)}, 1.0)
    assert torch.equal(data.generated_mel(0), data.recording(0).mel)


def test_mels_of_another_kind_are_refused(prepared, lips, tmp_path):
    config = tiny(prediction=0)
    best = tmp_path / "best"
    best.mkdir()
    model = WaveGlow(replace(config, audio=AudioConfig(win_length=800)))
    (best / "config.json").write_text(to_json(model.config))
    save_weights(best / "model.safetensors", model.state_dict())
    with pytest.raises(ConfigError, match="the model makes mels of 16000 Hz"):
        mels_for(tmp_path, lips, prepared, tmp_path / "generated", recipe(), "cpu")


def test_presets_and_the_recipe_of_the_repository(tmp_path):
    assert vocoder_recipe().model == waveglow_small()
    assert vocoder_recipe("nvidia").model == waveglow_256()
    assert finetune_vocoder_recipe().train.learning_rate < vocoder_recipe().train.learning_rate
    assert read_settings(ROOT / "recipes" / "waveglow-s1.json", vocoder_recipe()).model == waveglow_small()
    assert read_settings(ROOT / "recipes" / "waveglow-gpu.json", vocoder_recipe()).model == waveglow_medium()


def test_the_commands_train_and_fine_tune(prepared, lips, tmp_path):
    (tmp_path / "recipe.json").write_text(to_json(recipe(epochs=1)))
    common = [str(prepared), "--recipe", str(tmp_path / "recipe.json"), "--device", "cpu", "--clips", "2"]
    done = CliRunner().invoke(app, ["train", *common, "-o", str(tmp_path / "own")])
    assert done.exit_code == 0, done.exception
    assert f"{tmp_path / 'own'}: best loss" in done.stdout
    more = ["--from", str(tmp_path / "own"), "--mels-of", str(lips), "-o", str(tmp_path / "tuned"), "--epochs", "2"]
    done = CliRunner().invoke(app, ["finetune", *common, *more])
    assert done.exit_code == 0, done.exception
    assert read_settings(tmp_path / "tuned" / "recipe.json", VocoderRecipe()).train.epochs == 2
    done = CliRunner().invoke(app, ["finetune", *common, "--from", str(tmp_path)])
    assert isinstance(done.exception, CheckpointError)
