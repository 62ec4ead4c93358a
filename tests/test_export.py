"""Exported packs give what torch gives, and are run by the same pipeline."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import tones
import torch
from test_model import clip, make, tiny
from test_vocoder_training import tiny as tiny_waveglow
from typer.testing import CliRunner

from lipsound2.audio import fine_magnitude
from lipsound2.cli import app
from lipsound2.config import FrameDecoderConfig, to_json
from lipsound2.errors import CheckpointError, ConfigError, MediaError
from lipsound2.export import backend
from lipsound2.export import write as writing
from lipsound2.export.quantize import rounded
from lipsound2.export.settings import read_exported
from lipsound2.export.write import export, trace
from lipsound2.inference.pipeline import load
from lipsound2.inference.recognizers import choose
from lipsound2.packs import PackInfo, find_pack, write_pack
from lipsound2.packs.familiarity import Calibration, Familiarity, Layer, Statistics, load_familiarity, observe
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.ngram import train_ngram
from lipsound2.recognizer.transcriber import load_jasper, save_recognizer
from lipsound2.runtime.weights import save_weights
from lipsound2.vocoder.synthesis import WaveGlowVocoder, load_waveglow
from lipsound2.vocoder.waveglow import WaveGlow

pytest.importorskip("onnx")
ALPHABET = " ab"


@pytest.fixture(autouse=True, scope="module")
def untraced_types():
    """Check no types while a module is traced, in which sizes are tensors."""

    def unchecked(graph, path):
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            trace(graph, path)
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "trace", unchecked)
        yield


def familiarity() -> Familiarity:
    size = 8 * 2 * 2
    parts = (torch.zeros(size), torch.ones(size), torch.zeros(2, size), torch.eye(3, size), torch.ones(3))
    return Familiarity(Statistics(*parts, torch.ones(1)), Calibration(Layer(1, 2), 0.0, 1.0))


def write(folder: Path, config=tiny()) -> Path:  # noqa: B008
    """Write a pack with every part."""
    torch.manual_seed(1)
    waveglow, jasper = WaveGlow(tiny_waveglow()), Jasper(tones.tiny(ALPHABET, 8))
    for name, model in (("model", make(config)), ("waveglow", waveglow)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(to_json(model.config))
        save_weights(folder / name / "model.safetensors", model.state_dict())
    save_recognizer(folder / "recognizer", jasper, train_ngram([["ab", "a"]]))
    runs = {part: folder / part for part in ("model", "waveglow", "recognizer")}
    info = PackInfo("mine", "1", "CC-BY-4.0", "five clips", "waveglow")
    return write_pack(runs, folder / "mine", info, "# Mine\n", torch.float32, familiarity=familiarity()).folder


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def exported(pack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "mine"
    export(find_pack(pack), folder)
    return folder


@pytest.mark.parametrize("frames", [2, 7, 30])
def test_mel_and_attention_are_those_of_torch(pack, exported, frames):
    video, lengths = clip(frames), torch.tensor([frames])
    with torch.inference_mode():
        wanted = find_pack(pack).load_model()(video, lengths)
    found = backend.OnnxLips(exported)(video, lengths)
    for name in ("before", "after", "alignment", "lengths"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=1e-3, rtol=1e-3)


def test_a_decoder_without_feedback(tmp_path):
    folder = write(tmp_path, replace(tiny(), decoder=FrameDecoderConfig(1, 8, 3)))
    export(find_pack(folder), tmp_path / "exported")
    video, lengths = clip(9), torch.tensor([9])
    with torch.inference_mode():
        wanted = find_pack(folder).load_model()(video, lengths)
    found = backend.OnnxLips(tmp_path / "exported")(video, lengths)
    torch.testing.assert_close(found.after, wanted.after, atol=1e-3, rtol=1e-3)
    assert found.alignment is None


def test_audio_is_that_of_torch(pack, exported):
    mel = torch.linspace(-8, 0, 80)[:, None] + torch.sin(torch.arange(50) / 3)
    wanted = WaveGlowVocoder(load_waveglow(find_pack(pack).waveglow), integers=False, denoise=0.1)(mel)
    found = WaveGlowVocoder(backend.OnnxWaveGlow(exported), denoise=0.1)(mel)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_the_graph_of_the_waveglow_gives_the_predictor_too(pack, exported):
    mel, model = torch.randn(1, 80, 30) - 5, load_waveglow(find_pack(pack).waveglow)
    noise = np.zeros((1, 40, 120), np.float32)
    found = backend.Session(exported / "waveglow.onnx")(mel=mel.numpy(), noise=noise)
    for name, wanted in model.predictor(mel)._asdict().items():
        np.testing.assert_allclose(found[name], wanted.numpy(), atol=1e-3, rtol=1e-3)


def test_magnitudes_are_those_of_torch(exported):
    audio = read_exported(exported).model.audio
    mel = torch.randn(1, 80, 33) - 3
    found = backend.Session(exported / "magnitude.onnx")(mel=mel.numpy())["magnitude"]
    np.testing.assert_allclose(found, fine_magnitude(mel, audio).numpy(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("samples", [400, 1601, 16000])
def test_posteriors_are_those_of_torch(pack, exported, samples):
    wave = np.random.default_rng(0).standard_normal(samples).astype(np.float32) / 10
    wanted = load_jasper(find_pack(pack).recognizer).listen(wave)
    np.testing.assert_allclose(backend.OnnxJasper(exported).listen(wave), wanted, atol=1e-3)


def test_familiarity_is_measured_as_by_torch(pack, exported):
    measured = []
    for model in (find_pack(pack).load_model(), backend.OnnxLips(exported)):
        measure = load_familiarity(find_pack(exported).folder, model)
        with torch.inference_mode(), observe(model, measure.layer) as seen:
            model(clip(12), torch.tensor([12]))
        with torch.inference_mode():
            model(clip(12, seed=2), torch.tensor([12]))
        assert len(seen) == 1
        measured.append(measure(seen[0]))
    assert measured[0] == pytest.approx(measured[1], abs=1e-3)


def test_the_exported_folder_is_a_verified_pack(exported, tmp_path):
    assert find_pack(exported).info.name == "mine"
    data = json.loads((exported / "export.json").read_text())
    for name, ports in data["graphs"].items():
        session = backend.Session(exported / f"{name}.onnx")._session
        for side, have in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            assert [port["name"] for port in ports[side]] == [each.name for each in have]
    filters = data["derived"]["mel_filters"]
    assert len(filters) == 80
    assert {path.name for path in (exported / "faces").iterdir()} == {"pnet.onnx", "rnet.onnx", "onet.onnx"}
    damaged = shutil.copytree(exported, tmp_path / "damaged")
    (damaged / "decoder.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        find_pack(damaged)
    with pytest.raises(MediaError, match=r"decoder\.onnx cannot be read"):
        backend.Session(damaged / "decoder.onnx")


def test_the_pipeline_runs_on_an_export_or_makes_one(pack, exported, tmp_path, monkeypatch):
    views = torch.randint(0, 256, (12, 1, 160, 160), dtype=torch.uint8)
    spoken = [load(source, backend=kind).speak_crops(views) for source, kind in ((pack, "torch"), (exported, "onnx"))]
    np.testing.assert_allclose(spoken[0].mel, spoken[1].mel, atol=1e-3)
    assert isinstance(load(exported, backend="onnx").vocoder.model, backend.OnnxWaveGlow)
    monkeypatch.setenv("LIPSOUND2_CACHE", str(tmp_path))
    again = [backend.exported_folder(find_pack(pack)) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0].is_relative_to(tmp_path)
    assert backend.exported_folder(find_pack(exported)) == exported
    reader = choose("jasper", None, exported=exported)
    assert isinstance(reader.model, backend.OnnxJasper)
    with pytest.raises(CheckpointError, match="no model of torch"):
        load(exported)


def test_weights_of_8_bits_are_smaller_and_nearly_the_same(pack, exported, tmp_path):
    small = tmp_path / "small"
    export(find_pack(pack), small, int8=True)
    assert read_exported(small).quantized == "int8"
    weight = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    for axis, scaled in ((0, (4, 1, 1)), (1, (1, 3, 1))):
        values, scale = rounded(weight, axis)
        assert values.dtype == np.int8
        np.testing.assert_allclose(values * scale.reshape(scaled), weight, atol=scale.max() / 2 + 1e-6)
    video, lengths = clip(9), torch.tensor([9])
    wanted, found = (backend.OnnxLips(folder)(video, lengths).after for folder in (exported, small))
    assert 0 < float((wanted - found).abs().mean()) < 0.1
    size = {folder: (folder / "encoder.onnx").stat().st_size for folder in (exported, small)}
    assert size[small] < size[exported]


def test_what_cannot_be_exported_is_said(pack, tmp_path):
    found = find_pack(pack)
    with pytest.raises(CheckpointError, match="exists"):
        export(found, pack)
    taught = write(tmp_path, replace(tiny(), condition_dim=3))
    with pytest.raises(ConfigError, match="condition"):
        export(find_pack(taught), tmp_path / "out")
    with pytest.raises(CheckpointError, match="cannot read"):
        read_exported(pack)


def test_the_commands(pack, tmp_path):
    target = tmp_path / "made"
    done = CliRunner().invoke(app, ["export", str(pack), "-o", str(target), "--quantize", "int8"])
    assert done.exit_code == 0, done.output
    assert read_exported(target).quantized == "int8"
    done = CliRunner().invoke(app, ["speak", "a.mp4", "--backend", "onnx", "--device", "cuda"])
    assert "--device does nothing with --backend onnx" in str(done.exception)


def test_the_example_reads_without_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    folder, examples = tmp_path / "exported", Path(__file__).parents[1] / "examples" / "onnx"
    export(find_pack("grid-s1"), folder)
    code = (
        "import sys, runpy; sys.modules['torch'] = sys.modules['lipsound2'] = None; sys.argv.pop(0); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [str(examples / "speak.py"), str(folder), str(examples / "bgal7s.npy"), str(tmp_path / "out.wav")]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.stdout == "bin green at m seven soon\n", done.stderr
    assert (tmp_path / "out.wav").stat().st_size > 60_000
