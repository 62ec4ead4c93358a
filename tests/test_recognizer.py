import builtins
import sys
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from data.nemo.make import waves
from tones import RATE, say, tiny

from lipsound2.errors import CheckpointError, ConfigError, DataError, MissingExtraError
from lipsound2.inference.recognizers import choose
from lipsound2.recognizer import gate
from lipsound2.recognizer.base import Recognizer, transcribe_wave
from lipsound2.recognizer.beam import BeamConfig
from lipsound2.recognizer.config import PRESETS, BlockConfig, FeatureConfig, GateConfig
from lipsound2.recognizer.features import features, log_power, quiet_frames
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.ngram import train_ngram
from lipsound2.recognizer.transcriber import JasperRecognizer, load_recognizer, save_recognizer
from lipsound2.recognizer.whisper import WhisperRecognizer
from lipsound2.text.alphabet import Transcript, Word

GOLDEN = np.load(Path(__file__).parent / "data" / "nemo" / "golden.npz")


@pytest.fixture
def model() -> Jasper:
    torch.manual_seed(0)
    return Jasper(tiny("ab ")).eval()


def test_features_are_those_of_nemo():
    wave, lengths = (torch.from_numpy(array) for array in waves())
    found = features(wave, lengths, FeatureConfig())
    assert found.lengths.tolist() == GOLDEN["frames"].tolist() == [50, 30]
    frames = found.values.shape[-1]
    assert torch.allclose(found.values, torch.from_numpy(GOLDEN["features"])[..., :frames], atol=2e-4)


def test_what_lies_behind_the_end_of_a_wave_changes_nothing():
    wave, lengths = (torch.from_numpy(array) for array in waves())
    alone = features(wave[1:, : int(lengths[1])], lengths[1:], FeatureConfig())
    dirty = wave.clone()
    dirty[1, int(lengths[1]) :] = 0.7
    padded = features(torch.cat([dirty, dirty], dim=1), lengths, FeatureConfig())
    assert torch.allclose(padded.values[1, :, :30], alone.values[0], atol=1e-5)
    assert padded.values[1, :, 30:].abs().max() == 0


def test_frames_are_quiet_where_nothing_is_said_for_long():
    time = np.arange(RATE) / RATE
    said = ((time > 0.3) & (time < 0.45)) | ((time > 0.55) & (time < 0.7))
    wave = (0.5 * np.sin(2 * np.pi * 500 * time) * said + 1e-3 * np.sin(2 * np.pi * 700 * time)).astype(np.float32)
    batch = torch.from_numpy(np.stack([wave, 1e-3 * wave]))
    values, lengths = log_power(batch, torch.tensor([RATE, 12_800]), FeatureConfig(guard=1e-12))
    found = quiet_frames(values, lengths)
    assert found[0, :18].all()
    assert not found[0, 21:79].any(), "not in the gap of 0.1 s"
    assert found[0, 82:].all()
    assert torch.equal(found[1, :80], found[0, :80]), "whatever the loudness"
    assert not found[1, 80:].any(), "nor behind the end"


def test_padding_and_order_of_a_batch_change_nothing(model):
    values = torch.randn(3, 64, 40)
    lengths = torch.tensor([40, 23, 31])
    together = model(values, lengths)
    assert together.lengths.tolist() == [20, 12, 16]
    for i, length in enumerate(lengths.tolist()):
        alone = model(values[i : i + 1, :, :length], lengths[i : i + 1])
        read = int(together.lengths[i])
        assert torch.allclose(together.values[i, :read], alone.values[0, :read], atol=1e-5)
    order = torch.tensor([2, 0, 1])
    turned = model(values[order], lengths[order])
    assert torch.allclose(turned.values[0, :16], together.values[2, :16], atol=1e-5)


def test_every_parameter_gets_a_gradient(model):
    model.train()(torch.randn(2, 64, 40), torch.tensor([40, 30])).values.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("preset", "millions"), [("jasper_10x5dr", 333), ("jasper_5x3", 110), ("quartznet_15x5", 18.9), ("small", 2.46)]
)
def test_presets_have_the_published_sizes(preset, millions):
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in Jasper(PRESETS[preset]()).parameters()) / 1e6
    assert found == pytest.approx(millions, rel=0.02)


def test_blocks_that_cannot_be_are_refused():
    for wrong in ({"kernel": 4}, {"residual": "some"}, {"stride": 2, "repeat": 2}):
        with pytest.raises(ConfigError):
            BlockConfig(**{"filters": 8, "kernel": 3} | wrong)


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_has_no_words(model, level):
    wave = (level * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    found = JasperRecognizer(model).transcribe(wave)
    assert found.words == ()
    assert found.note.startswith("silence")


def test_noise_has_no_words(model):
    wave = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    found = JasperRecognizer(model).transcribe(wave)
    assert found.words == ()
    assert "noise" in found.note
    assert JasperRecognizer(model).transcribe(wave[:100]).note == "too short to hold a word"


def test_only_the_stretch_that_is_noise_is_left_out():
    said = (Word("bin", 0.1, 0.4, 0.9), Word("x", 0.5, 0.6, 0.3), Word("hum", 2.0, 2.2, 0.2))
    kept = gate.keep_clear(Transcript(said), GateConfig())
    assert kept.words == said[:2]
    assert kept.note == "noise: 1 words left out that were only 20% certain"
    assert gate.keep_clear(Transcript(said[:2]), GateConfig()) == Transcript(said[:2])


def test_a_language_model_finds_no_words_in_noise(model):
    wave = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    found = JasperRecognizer(model, train_ngram([["ab", "a"]]), BeamConfig()).transcribe(wave)
    assert found.words == ()
    assert "noise" in found.note
    words = (Word("a", 0.0, 0.2, 0.1), Word("b", 1.0, 1.1, 0.1), Word("c", 3.0, 3.1, 0.1))
    assert gate.near(words, (Word("x", 0.1, 0.4, 1.0),), 1.0) == words[:2]
    assert gate.near(words, (), 1.0) == ()


def test_long_waves_are_read_in_windows(model, monkeypatch):
    wave = say("ab a bb ab aa b " * 4, "ab")
    whole = JasperRecognizer(model).posteriors(wave)
    monkeypatch.setattr("lipsound2.recognizer.transcriber.WINDOW", 2.0)
    monkeypatch.setattr("lipsound2.recognizer.transcriber.MARGIN", 1.0)
    parts = JasperRecognizer(model).posteriors(wave)
    assert parts.shape == whole.shape
    # Features are normalised over what is seen at once, so that windows only agree roughly.
    assert np.corrcoef(parts.ravel(), whole.ravel())[0, 1] > 0.9


def test_a_recognizer_comes_back_from_its_folder(model, tmp_path):
    language = train_ngram([["ab", "a"]])
    save_recognizer(tmp_path / "best", model, language)
    wave = say("ab a", "ab")
    again = choose(str(tmp_path), None)
    assert isinstance(again, Recognizer)
    assert np.array_equal(again.posteriors(wave), JasperRecognizer(model).posteriors(wave))
    assert again.beam is None
    assert choose("jasper:beam", tmp_path).beam.language.words == ["a", "ab"]
    assert choose("jasper", tmp_path, beam=BeamConfig(width=7)).beam.config.width == 7
    (tmp_path / "best" / "language.arpa").write_text("damaged")
    with pytest.raises(DataError, match="not an ARPA"):
        load_recognizer(tmp_path / "best", beam=BeamConfig())


def test_recognizers_that_are_missing_are_named(tmp_path):
    for name, packed, message in (
        ("jasper", None, "the pack holds no recogniser"),
        ("nothing", None, "no recogniser and no folder 'nothing'"),
        (str(tmp_path), None, "holds no recogniser"),
    ):
        with pytest.raises(CheckpointError, match=message):
            choose(name, packed)


def test_waves_of_any_rate_reach_the_recognizer_at_its_own():
    class Listener:
        name, sample_rate = "listener", 16_000

        def transcribe(self, wave: np.ndarray) -> Transcript:
            spectrum = np.abs(np.fft.rfft(wave))
            return Transcript((Word(str(round(spectrum.argmax() * 16_000 / len(wave))), 0.0, 1.0, 1.0),))

    time = np.arange(22_050) / 22_050
    assert transcribe_wave(Listener(), np.sin(2 * np.pi * 1000 * time).astype(np.float32), 22_050).text == "1000"


class Heard(NamedTuple):
    word: str
    start: float
    end: float
    probability: float


@pytest.fixture
def fake_whisper(monkeypatch):
    """Stand in for the package faster-whisper."""

    class WhisperModel:
        def __init__(self, size: str, device: str) -> None:
            if size == "no-such-size":
                raise ValueError("Invalid model size")
            self.size = size

        def transcribe(self, wave: np.ndarray, **options: object) -> tuple:
            assert wave.dtype == np.float32
            assert options["word_timestamps"]
            heard = [Heard(" Bin", 0.1, 0.5, 0.9), Heard(" blue.", 0.5, 0.9, 0.8), Heard(" ", 0.9, 1.0, 0.1)]
            return iter([types.SimpleNamespace(words=heard), types.SimpleNamespace(words=None)]), types.SimpleNamespace(
                language="de"
            )

    module = types.ModuleType("faster_whisper")
    module.WhisperModel = WhisperModel
    monkeypatch.setitem(sys.modules, "faster_whisper", module)


def test_whisper_reads_behind_the_same_protocol(fake_whisper):
    judge = choose("whisper:tiny", None)
    assert isinstance(judge, Recognizer)
    assert judge.model.size == "tiny"
    found = judge.transcribe(say("ab", "ab"))
    assert found.text == "Bin blue."
    assert found.language == "de"
    assert found.words[1] == Word("blue.", 0.5, 0.9, 0.8)
    assert judge.transcribe(np.zeros(RATE, np.float32)).note.startswith("silence")
    with pytest.raises(CheckpointError, match="cannot load Whisper's model 'no-such-size'"):
        choose("whisper:no-such-size", None)


def test_without_the_extra_whisper_says_what_to_install(monkeypatch):
    real = builtins.__import__
    monkeypatch.delitem(sys.modules, "faster_whisper", raising=False)

    def importing(name: str, *rest: object) -> object:
        if name == "faster_whisper":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(MissingExtraError) as caught:
        WhisperRecognizer()
    assert "lipsound2[whisper]" in caught.value.hint
