"""The example modules of docs/extending.md add a decoder, a corpus and a vocoder that work as our own do."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_model import clip, make, tiny

from lipsound2 import config, corpora, media
from lipsound2.audio import log_mel
from lipsound2.config import ModelConfig, audio_16k, audio_22k, from_dict, small, to_json
from lipsound2.errors import ConfigError, DataError
from lipsound2.inference.windows import generate
from lipsound2.model import lipsound
from lipsound2.model.memory import Decoder
from lipsound2.training.recipes.defaults import choose_recipe
from lipsound2.vocoder import Vocoder
from lipsound2.vocoder.choose import VOCODERS, choose_vocoder

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "extending"


@pytest.fixture
def extended(monkeypatch):
    """Load an example module; what it registers is forgotten after the test."""
    for registry in (config.DECODERS, lipsound.DECODERS, corpora.READERS, VOCODERS):
        for name in ("gru", "ravdess", "noise"):
            monkeypatch.setitem(registry, name, None)
            monkeypatch.delitem(registry, name)

    def load(name: str):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_decoder_of_ones_own(extended):
    gru = extended("gru_decoder")
    wanted = replace(tiny(), decoder=gru.GruDecoderConfig(dim=8, layers=1))
    assert from_dict(json.loads(to_json(wanted)), ModelConfig) == wanted
    model = make(wanted)
    assert isinstance(model.decoder, Decoder)
    lengths = torch.tensor([5, 9])
    padded = torch.full((2, 1, 9, 16, 16), 255, dtype=torch.uint8)
    padded[0, :, :5], padded[1] = clip(5)[0], clip(9)[0]
    together = model(padded, lengths)
    torch.testing.assert_close(together.after[0, :, :20], model(clip(5), lengths[:1]).after[0], atol=1e-4, rtol=1e-4)
    spoken = generate(model, clip(50)[0].transpose(0, 1), 50)
    assert spoken.mel.shape == (80, 200)
    model.train()(clip(6), torch.tensor([6]), torch.randn(1, 80, 24)).after.square().mean().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    with pytest.raises(ConfigError, match="kind 'gru' needs whole mel frames"):
        make(replace(wanted, audio=audio_22k()))


def test_the_recipe_of_the_decoder_names_it(extended):
    gru = extended("gru_decoder")
    recipe = choose_recipe("pretrain", file=EXAMPLES / "gru.json", assignments=["model.decoder.layers=1"])
    assert recipe.model.decoder == gru.GruDecoderConfig(dim=128, layers=1)
    assert recipe.model.encoder == small().encoder


def test_a_corpus_of_ones_own(extended, tmp_path):
    extended("ravdess")
    names = ["01-01-03-02-01-02-12", "01-01-01-01-02-01-03", "01-02-01-01-02-01-03", "02-01-01-01-02-01-03", "holiday"]
    for name in names:
        path = tmp_path / f"Actor_{name[-2:]}" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "splits.csv").write_text("clip,split\n12/01-01-03-02-01-02-12,test\n", encoding="utf-8")
    clips = list(corpora.find_reader("ravdess")(tmp_path))
    assert [clip.id for clip in clips] == ["03/01-01-01-01-02-01-03", "12/01-01-03-02-01-02-12"]
    assert [clip.speaker for clip in clips] == ["actor03", "actor12"]
    assert clips[0].transcript == "dogs are sitting by the door"
    assert clips[1].split == "test"
    with pytest.raises(DataError, match="no RAVDESS clip"):
        list(corpora.find_reader("ravdess")(tmp_path / "Actor_ay"))


def test_the_command_prepares_a_corpus_of_ones_own(clips, tmp_path):
    shutil.copy(clips / "sim01" / "brix1a.mp4", tmp_path / "01-01-03-02-01-02-12.mp4")
    words = ["prepare", "ravdess", str(tmp_path), "-o", str(tmp_path / "prepared"), "--workers", "1", "--json"]
    command = [sys.executable, str(EXAMPLES / "ravdess.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == 1


def test_an_unknown_corpus_names_those_there_are():
    with pytest.raises(ConfigError, match="no corpus layout 'ravdess'") as caught:
        corpora.find_reader("ravdess")
    assert caught.value.hint == f"known: {', '.join(corpora.READERS)}"


@pytest.mark.parametrize("audio", [audio_16k(), audio_22k()])
def test_a_vocoder_of_ones_own(extended, clips, audio):
    module = extended("noise_vocoder")
    vocoder = choose_vocoder("noise", audio, None)
    assert isinstance(vocoder, Vocoder)
    wave = torch.from_numpy(media.read_audio(clips / "sim01" / "brix1a.mp4", audio.sample_rate))
    mel = log_mel(wave[None], audio)[0]
    made = vocoder(mel)
    assert made.shape == (mel.shape[1] * audio.hop_length,)
    assert torch.corrcoef(torch.stack([mel.flatten(), log_mel(made[None], audio)[0].flatten()]))[0, 1] > 0.9
    torch.testing.assert_close(module.NoiseVocoder(audio, chunk=17)(mel), made, atol=1e-4, rtol=1e-3)


def test_the_guide_quotes_the_examples():
    """Each block of code is in the module that the guide names above it, line by line."""
    guide = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", guide, flags=re.MULTILINE)[1:]
    quoted = 0
    for section in sections:
        for name, code in re.findall(r"`examples/extending/(\w+\.py)`.*?```python\n(.*?)```", section, flags=re.DOTALL):
            source = (EXAMPLES / name).read_text(encoding="utf-8")
            missing = [line for line in code.splitlines() if line.strip() != "..." and line not in source]
            assert missing == [], name
            quoted += 1
    assert quoted >= 3
