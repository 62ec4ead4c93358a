from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_model import make, tiny
from test_vocoder_training import tiny as tiny_waveglow

from lipsound2.config import audio_16k, audio_22k, to_json
from lipsound2.errors import CheckpointError, ConfigError
from lipsound2.inference.pipeline import load
from lipsound2.packs import PackInfo, find_pack, write_pack
from lipsound2.runtime.weights import save_weights
from lipsound2.vocoder import GriffinLim, choose
from lipsound2.vocoder.choose import choose_vocoder
from lipsound2.vocoder.hifigan import HifiGan
from lipsound2.vocoder.synthesis import WaveGlowVocoder
from lipsound2.vocoder.waveglow import WaveGlow


def write_run(folder: Path, config, model) -> Path:
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "config.json").write_text(to_json(config))
    save_weights(folder / "best" / "model.safetensors", model.state_dict())
    return folder


@pytest.fixture(scope="module")
def lips(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("lips") / "run", tiny(), make(tiny()))


@pytest.fixture(scope="module")
def glow(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return write_run(tmp_path_factory.mktemp("glow") / "run", tiny_waveglow(), WaveGlow(tiny_waveglow()))


@pytest.fixture(scope="module")
def pack(lips, glow, tmp_path_factory) -> Path:
    info = PackInfo("mine", "1", "CC-BY-4.0", "five clips", "waveglow")
    target = tmp_path_factory.mktemp("packs") / "mine"
    return write_pack({"model": lips, "waveglow": glow}, target, info, "# Mine\n").folder


def test_a_pack_speaks_with_its_own_choice_and_with_any_other(pack, lips, glow):
    own = load(pack).vocoder
    assert isinstance(own, WaveGlowVocoder)
    assert own.model.config == tiny_waveglow()
    assert isinstance(load(pack, "griffin-lim").vocoder, GriffinLim)
    mel = torch.full((80, 12), -5.0)
    given = load(lips, str(glow)).vocoder
    # The pack keeps half precision, the run all of it.
    torch.testing.assert_close(own(mel), given(mel), atol=1e-3, rtol=0.05)
    assert given(mel).shape == (12 * 160,)
    assert isinstance(load(lips).vocoder, GriffinLim)


def test_a_waveglow_for_other_mels_is_refused_with_both_named(lips, tmp_path):
    config = replace(tiny_waveglow(), audio=audio_22k(), group=8)
    folder = write_run(tmp_path / "run", config, WaveGlow(config))
    with pytest.raises(ConfigError, match=r"the model makes mels of 16000 Hz.* the vocoder waveglow wants 22050 Hz"):
        load(lips, str(folder))


def test_hifigan_is_loaded_for_the_models_mels(monkeypatch):
    asked = []
    made = GriffinLim(audio_16k())
    monkeypatch.setattr(choose, "load_hifigan", lambda *arguments: asked.append(arguments) or made)
    assert choose_vocoder(HifiGan.name, audio_16k(), None, "cpu") is made
    assert asked == [(audio_16k(), "cpu")]


def test_what_is_not_there_is_told_of(lips, tmp_path):
    with pytest.raises(ConfigError, match="unknown vocoder 'melgan'") as caught:
        choose_vocoder("melgan", audio_16k(), None)
    assert caught.value.hint.startswith("known: griffin-lim, waveglow, hifigan, or the folder")
    with pytest.raises(CheckpointError, match="the pack holds no WaveGlow"):
        choose_vocoder("waveglow", audio_16k(), find_pack(lips).waveglow)
    with pytest.raises(CheckpointError, match="holds no WaveGlow"):
        choose_vocoder(str(tmp_path), audio_16k(), None)
    with pytest.raises(ConfigError, match="is not a valid WaveGlowConfig"):
        choose_vocoder(str(lips), audio_16k(), None)
