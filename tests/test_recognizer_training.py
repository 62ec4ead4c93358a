import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tones
import torch
from test_packs import run
from test_training import cpu
from typer.testing import CliRunner

from lipsound2.cli import app
from lipsound2.config import audio_16k, to_json
from lipsound2.data.dataset import Place
from lipsound2.data.sample import decode_wave, encode_wave
from lipsound2.data.shards import read_index, read_member
from lipsound2.errors import ConfigError, DataError
from lipsound2.inference.recognizers import choose
from lipsound2.recognizer.features import Features
from lipsound2.runtime.weights import WEIGHTS_NAME, load_weights
from lipsound2.text.alphabet import Alphabet
from lipsound2.training import augment, generated
from lipsound2.training.augment import SpeechAugmentConfig
from lipsound2.training.config import TrainConfig
from lipsound2.training.generated import generate_speech
from lipsound2.training.generated_mels import generate_mels
from lipsound2.training.recipes.asr import AsrRecipe
from lipsound2.training.run import run as train
from lipsound2.training.speech import SpeechDataset, collate, speech_entries
from lipsound2.training.tasks.asr import JasperTask

__all__ = ["run"]

PLAIN = SpeechAugmentConfig(speed=0.0, noise=0.0, empty=0.0, blur=0.0, jitter=0.0, time_masks=0, mel_masks=0)
ENGLISH = {
    "train": ["ab c", "ba ca", "c ab", "abc a", "a cb b", "bb ca", "cc ab", "ac bab"],
    "val": ["ba c", "cab aa"],
}


def recipe(alphabet: str, **train: object) -> AsrRecipe:
    fast = {"epochs": 9, "batch_size": 4, "learning_rate": 0.02, "warmup": 10, "ema": 0.9, "show_every": 0}
    settings = TrainConfig(**{"optimizer": "novograd", "betas": (0.9, 0.5), "validate_every": 3} | fast | train)
    return AsrRecipe(tones.tiny(alphabet), settings, PLAIN)


@pytest.mark.parametrize("letters", ["abc ", "你好吗我"])
def test_a_language_of_tones_is_learned(tmp_path, letters):
    rng = np.random.default_rng(0)
    texts = {"train": [tones.sentence(letters, rng) for _ in range(60)], "val": ENGLISH["val"]}
    if " " not in letters:
        texts["val"] = ["我好", "你吗吗"]
    prepared = tones.corpus(tmp_path / "prepared", texts, letters)
    error = train(recipe(letters), prepared, tmp_path / "run", None, cpu())
    assert error < 0.01
    reader = choose(str(tmp_path / "run"), None)
    new = "cab bc" if letters == "abc " else "好吗好我"
    found = reader.transcribe(tones.say(new, letters))
    assert found.text == new
    assert found.note is None
    assert min(word.confidence for word in found.words) > 0.5
    if letters == "abc ":
        heard = [(word.start, word.end) for word in found.words]
        assert np.abs(np.array(heard) - np.array(tones.times(new))).max() < 0.15
    searching = choose(f"{tmp_path / 'run'}:beam", None)
    assert set(Alphabet(letters).words(searching.transcribe(tones.say(new, letters)).text)) <= set(
        searching.beam.listed
    )
    assert searching.beam.language.words == sorted(
        {word for text in texts["train"] for word in Alphabet(letters).words(text)}
    )


class StoppedError(Exception):
    pass


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch):
    prepared = tones.corpus(tmp_path / "prepared", ENGLISH, "abc ")
    varied = replace(recipe("abc ", epochs=2, validate_every=1, checkpoint_minutes=0.0), augment=SpeechAugmentConfig())
    train(varied, prepared, tmp_path / "whole", None, cpu())

    inner, steps = JasperTask.loss, []

    def stopping(self: JasperTask, *args: object) -> object:
        steps.append(1)
        if len(steps) > 3:
            raise StoppedError
        return inner(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(JasperTask, "loss", stopping)
        with pytest.raises(StoppedError):
            train(varied, prepared, tmp_path / "halves", None, cpu())
    train(varied, prepared, tmp_path / "halves", None, cpu())
    whole, halves = (load_weights(tmp_path / name / "best" / WEIGHTS_NAME) for name in ("whole", "halves"))
    assert all(torch.equal(whole[name], value) for name, value in halves.items())
    with pytest.raises(ConfigError, match="begun with other settings"):
        train(replace(varied, order=2), prepared, tmp_path / "halves", None, cpu())


def test_speech_of_an_epoch_is_the_same_each_time_and_differs_from_epoch_to_epoch(tmp_path):
    prepared = tones.corpus(tmp_path, ENGLISH, "abc ")
    data = SpeechDataset([prepared], "train", Alphabet("abc "), 16_000, SpeechAugmentConfig())
    again, other = data[Place(0, 3)], data[Place(1, 3)]
    assert torch.equal(data[Place(0, 3)].wave, again.wave)
    assert len(other.wave) != len(again.wave), "another speed"
    batch = collate([again, other])
    assert batch.wave_lengths.tolist() == [len(again.wave), len(other.wave)]
    assert batch.symbols.shape == (2, len(ENGLISH["train"][3]))


def test_clips_that_cannot_be_learned_are_refused(tmp_path):
    prepared = tones.corpus(tmp_path, ENGLISH, "abc ")
    for message, options in (
        ("no clip of split 'test'", {"split": "test"}),
        ("16000 Hz, the recogniser takes 8000 Hz", {"sample_rate": 8000}),
        ("'c', which is not in", {"alphabet": Alphabet("ab ")}),
        ("no clip of nobody", {"speakers": ("nobody",)}),
    ):
        with pytest.raises(DataError, match=message):
            SpeechDataset(
                **{"folders": [prepared], "split": "train", "alphabet": Alphabet("abc "), "sample_rate": 16_000}
                | options
            )
    some = SpeechDataset([prepared, prepared], "train", Alphabet("abc "), 16_000, clips=3)
    assert len(some) == 6
    assert len(some.sentences()) == 3, "a language model counts a sentence once"


def test_augmentation_does_what_it_says():
    rng = np.random.default_rng(0)
    time = np.arange(16_000) / 16_000
    wave = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    faster = augment.vary_speed(wave, 1.25)
    assert len(faster) == pytest.approx(16_000 / 1.25, abs=2)
    assert np.abs(np.fft.rfft(faster)).argmax() / len(faster) * 16_000 == pytest.approx(1250, abs=5)
    noisy = augment.add_noise(wave, SpeechAugmentConfig(snr=(10.0, 10.0)), rng)
    assert 10 * np.log10(wave.var() / (noisy - wave).var()) == pytest.approx(10, abs=0.5)
    ones = Features(torch.ones(4, 64, 100), torch.tensor([100, 100, 60, 100]))
    generator = torch.Generator().manual_seed(0)
    hidden = augment.mask(ones, SpeechAugmentConfig(time_masks=1, time_width=20, mel_masks=0), generator).values == 0
    assert hidden.any()
    assert (hidden.all(dim=1) == hidden.any(dim=1)).all(), "whole frames"
    assert hidden[:, 0].sum(dim=1).max() <= 20
    still = augment.blur(ones.values, SpeechAugmentConfig(blur=0.0), generator)
    assert torch.allclose(still, ones.values, atol=1e-6)
    step = torch.cat([torch.zeros(8, 64, 50), torch.ones(8, 64, 50)], dim=2)
    blurred = augment.blur(step, SpeechAugmentConfig(blur=1.0, jitter=0.0), generator)
    assert 0.1 < blurred[:, :, 49].max() <= 0.5 + 1e-6


def test_of_two_that_would_generate_speech_one_speaks(prepared, run, tmp_path, monkeypatch):
    real, spoken = generated.speak_entry, []

    def noting(pipeline: object, folder: Path, entry: object) -> bytes:
        spoken.append(entry.key)
        return real(pipeline, folder, entry)

    monkeypatch.setattr(generated, "speak_entry", noting)
    output = tmp_path / "generated"
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(generate_speech, prepared, run, output, clips=2) for _ in range(2)]:
            done.result()
    assert sorted(spoken) == sorted(entry.key for entry in read_index(output))


def test_generated_speech_is_kept_and_taken_up_where_it_was_stopped(prepared, run, tmp_path, monkeypatch):
    real, spoken = generated.speak_entry, []

    def stopping(pipeline: object, folder: Path, entry: object) -> bytes:
        if len(spoken) == 2:
            raise KeyboardInterrupt
        spoken.append(entry.key)
        return real(pipeline, folder, entry)

    monkeypatch.setattr(generated, "speak_entry", stopping)
    output = tmp_path / "generated"
    with pytest.raises(KeyboardInterrupt):
        generate_speech(prepared, run, output, clips=2)
    spoken.append("stopped")
    generate_speech(prepared, run, output, clips=2)
    entries = read_index(output)
    assert len(spoken) - 1 == len(set(spoken)) - 1 == len(entries), "none was spoken twice"
    assert {entry.meta["split"] for entry in entries} == {"train", "val"}
    assert all(entry.meta["transcript"] and "test" not in entry.shard for entry in entries)
    assert not (output / ".staging").exists()
    wave = decode_wave(read_member(output, entries[0], "flac"))
    assert len(wave) == pytest.approx(entries[0].meta["frames"] * 640, abs=640)
    plan = json.loads((output / "generated.json").read_text())
    old = {name: value for name, value in plan.items() if name not in ("kind", "settings_sha256")}
    (output / "generated.json").write_text(json.dumps(old))  # as older versions wrote it
    generate_speech(prepared, run, output, clips=2)
    with pytest.raises(DataError, match="speech"):
        generate_mels(prepared, run, output, audio_16k(), clips=2)
    with pytest.raises(DataError, match="begun with other clips or another pack: clips 3, not 2; other clips"):
        generate_speech(prepared, run, output, clips=1)


def test_a_clip_that_cannot_be_spoken_costs_only_itself(prepared, run, tmp_path, monkeypatch):
    def speak(_pipeline: object, _folder: Path, entry: object) -> bytes:
        if entry.key == bad or bad == "all":
            raise soundfile.LibsndfileError(7, "Error: ")
        return encode_wave(np.zeros(640, np.float32), 16_000)

    bad = speech_entries(prepared, "train")[0].key
    monkeypatch.setattr(generated, "speak_entry", speak)
    output = tmp_path / "generated"
    generate_speech(prepared, run, output)
    (failure,) = (output / "failures.jsonl").read_text().splitlines()
    assert bad in failure
    assert bad not in {entry.key for entry in read_index(output)}
    shard = output / "train-00000.tar"
    before = shard.read_bytes()
    shard.write_bytes(before[:-2000])
    generate_speech(prepared, run, output)
    assert shard.read_bytes() == before
    bad = "all"
    with pytest.raises(DataError, match="nothing could be generated"):
        generate_speech(prepared, run, tmp_path / "none")


def test_the_commands_train_and_finetune(prepared, run, tmp_path):
    small = recipe(Alphabet().characters, epochs=1, validate_every=1)
    (tmp_path / "recipe.json").write_text(to_json(small))
    common = [str(prepared), "--recipe", str(tmp_path / "recipe.json"), "--device", "cpu", "--clips", "2"]
    first, second = str(tmp_path / "first"), tmp_path / "second"
    done = CliRunner().invoke(app, ["recognizer", "train", *common, "-o", first], catch_exceptions=False)
    assert done.exit_code == 0
    assert "best word error rate" in done.stdout
    command = ["recognizer", "finetune", *common, "--from", first, "--pack", str(run), "-o", str(second)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    record = json.loads((second / "metrics.jsonl").read_text().splitlines()[0])
    assert {"WER generated", "WER real", "CER generated"} <= record.keys()
    assert (second / "best" / "language.arpa").is_file()
    third = tmp_path / "third"
    heard = ["--generated", str(second / "generated"), "--speech", str(second / "generated")]
    command = ["recognizer", "finetune", *common, "--from", first, "--pack", str(run), "-o", str(third), *heard]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    steps = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["step"] for folder in (second, third)]
    assert steps[1] > steps[0]
