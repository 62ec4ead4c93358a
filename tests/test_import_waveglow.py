import os
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

from lipsound2.audio import log_mel
from lipsound2.cli.imports import app
from lipsound2.config import AudioConfig, audio_22k
from lipsound2.errors import CheckpointError
from lipsound2.importers.waveglow import import_waveglow, read_waveglow
from lipsound2.vocoder.synthesis import WaveGlowVocoder, load_waveglow, waveglow_folder

AUDIO = AudioConfig(sample_rate=16_000, n_fft=64, win_length=64, hop_length=16, n_mels=5)
FLOWS, GROUP, EVERY, EARLY, LAYERS, CHANNELS = 5, 8, 2, 2, 3, 6
WIDTHS = [8, 8, 6, 6, 4]


def published_weights(audio: AudioConfig = AUDIO, normed: bool = True) -> dict[str, Tensor]:
    """Make random weights under the published names, with weight norm or folded."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}

    def random(*shape: int, scale: float = 0.3) -> Tensor:
        return scale * torch.randn(shape, generator=generator)

    def layer(name: str, outputs: int, inputs: int, kernel: int = 1, norm: bool = True) -> None:
        weight = random(outputs, inputs, kernel)
        weights[f"{name}.bias"] = random(outputs)
        # Weight norm does not care how long the direction is.
        stretch = 1 + torch.rand(outputs, 1, 1, generator=generator)
        if norm and normed:
            weights[f"{name}.weight_g"] = weight.norm(dim=(1, 2), keepdim=True)
            weights[f"{name}.weight_v"] = weight * stretch
        else:
            weights[f"{name}.weight"] = weight

    weights["upsample.weight"] = random(audio.n_mels, audio.n_mels, audio.win_length, scale=0.05)
    weights["upsample.bias"] = random(audio.n_mels)
    for flow, width in enumerate(WIDTHS):
        mixing = torch.linalg.qr(random(width, width))[0] + random(width, width, scale=0.05)
        weights[f"convinv.{flow}.conv.weight"] = mixing[:, :, None]
        layer(f"WN.{flow}.start", CHANNELS, width // 2)
        layer(f"WN.{flow}.end", width, CHANNELS, norm=False)
        layer(f"WN.{flow}.cond_layer", 2 * CHANNELS * LAYERS, audio.n_mels * GROUP)
        for i in range(LAYERS):
            layer(f"WN.{flow}.in_layers.{i}", 2 * CHANNELS, CHANNELS, 3)
            layer(f"WN.{flow}.res_skip_layers.{i}", CHANNELS if i == LAYERS - 1 else 2 * CHANNELS, CHANNELS)
    return weights


class Published:
    """WaveGlow as it was published, straight from its definition, on its own names."""

    def __init__(self, weights: dict[str, Tensor], audio: AudioConfig = AUDIO) -> None:
        self.weights = weights
        self.audio = audio

    def conv(self, name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = self.weights.get(f"{name}.weight")
        if weight is None:
            g, v = self.weights[f"{name}.weight_g"], self.weights[f"{name}.weight_v"]
            weight = g * v / v.square().sum(dim=(1, 2), keepdim=True).sqrt()
        padding = (weight.shape[2] - 1) * dilation // 2
        return functional.conv1d(x, weight, self.weights[f"{name}.bias"], padding=padding, dilation=dilation)

    def network(self, flow: int, x: Tensor, mel: Tensor) -> Tensor:
        x = self.conv(f"WN.{flow}.start", x)
        mel = self.conv(f"WN.{flow}.cond_layer", mel)
        total = torch.zeros_like(x)
        for i in range(LAYERS):
            inside = self.conv(f"WN.{flow}.in_layers.{i}", x, 2**i)
            inside = inside + mel[:, i * 2 * CHANNELS : (i + 1) * 2 * CHANNELS]
            inside = torch.tanh(inside[:, :CHANNELS]) * torch.sigmoid(inside[:, CHANNELS:])
            inside = self.conv(f"WN.{flow}.res_skip_layers.{i}", inside)
            if i < LAYERS - 1:
                x = x + inside[:, :CHANNELS]
                total = total + inside[:, CHANNELS:]
            else:
                total = total + inside
        return self.conv(f"WN.{flow}.end", total)

    def __call__(self, mel: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and the sum of all logarithms of determinants."""
        stride = self.audio.hop_length
        up = functional.conv_transpose1d(
            mel, self.weights["upsample.weight"], self.weights["upsample.bias"], stride=stride
        )
        up = up[:, :, : wave.shape[1]].unfold(2, GROUP, GROUP).permute(0, 2, 1, 3).flatten(2).permute(0, 2, 1)
        x = wave.unfold(1, GROUP, GROUP).permute(0, 2, 1)
        out, log_det = [], torch.zeros(())
        for flow in range(FLOWS):
            if flow and flow % EVERY == 0:
                out.append(x[:, :EARLY])
                x = x[:, EARLY:]
            mixing = self.weights[f"convinv.{flow}.conv.weight"]
            x = functional.conv1d(x, mixing)
            log_det = log_det + x.shape[0] * x.shape[2] * torch.slogdet(mixing[:, :, 0])[1]
            half = x.shape[1] // 2
            said = self.network(flow, x[:, :half], up)
            log_det = log_det + said[:, half:].sum()
            x = torch.cat([x[:, :half], torch.exp(said[:, half:]) * x[:, half:] + said[:, :half]], dim=1)
        return torch.cat([*out, x], dim=1), log_det


def older(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Lay weights out as older versions did: one conditioning layer a layer, residual and skip layers apart."""
    made = {}
    for name, tensor in weights.items():
        start, _, rest = name.partition(".cond_layer.")
        if rest:
            made |= {f"{start}.cond_layers.{i}.{rest}": part for i, part in enumerate(tensor.chunk(LAYERS))}
        elif ".res_skip_layers." in name and tensor.shape[0] == 2 * CHANNELS:
            for kind, part in zip(("res", "skip"), tensor.chunk(2), strict=True):
                made[name.replace("res_skip", kind)] = part
        else:
            made[name.replace("res_skip", "skip")] = tensor
    return made


def parametrized(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name directions and gains as newer versions of torch do."""
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {name.replace(end := name.rpartition(".")[2], names.get(end, end)): t for name, t in weights.items()}


def as_module(weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Build a module of the published class path, with attributes that only such a module has."""
    glow = types.ModuleType("glow")
    for name in ("WaveGlow", "WN", "Invertible1x1Conv"):
        setattr(glow, name, type(name, (nn.Module,), {"__module__": "glow"}))
    monkeypatch.setitem(sys.modules, "glow", glow)
    root = glow.WaveGlow()
    root.n_flows, root.n_group = FLOWS, GROUP
    for name, tensor in weights.items():
        *path, last = name.split(".")
        place = root
        for i, part in enumerate(path):
            if part not in place._modules:
                kinds = {"WN": nn.ModuleList, "convinv": nn.ModuleList, "conv": nn.Conv1d, "start": nn.Conv1d}
                kind = kinds.get(part, glow.WN if i and path[i - 1] == "WN" else nn.Module)
                place.add_module(part, kind(1, 1, 1) if kind is nn.Conv1d else kind())
                place._modules[part]._parameters.clear()
            place = place._modules[part]
        place.register_parameter(last, nn.Parameter(tensor))
    return root


def check(path: Path) -> None:
    """Compare what was imported with the published definition."""
    model = read_waveglow(path, AUDIO)
    generator = torch.Generator().manual_seed(1)
    wave = 0.3 * torch.randn(2, 20 * AUDIO.hop_length, generator=generator)
    mel = log_mel(wave, AUDIO)
    z, log_det = Published(published_weights())(mel, wave)
    flowed = model(wave, mel)
    torch.testing.assert_close(flowed.z, z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((flowed.scaled + flowed.mixed).sum(), log_det, atol=1e-2, rtol=1e-4)
    assert log_det.abs() > 10
    torch.testing.assert_close(model.infer(mel, z), wave, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [None, "model", "state_dict"])
@pytest.mark.parametrize("layout", ["normed", "folded", "older", "parametrized"])
def test_state_dicts_equal_the_published_definition(tmp_path, prefix, wrap, layout):
    weights = published_weights(normed=layout != "folded")
    weights = {"older": older, "parametrized": parametrized}.get(layout, dict)(weights)
    named = {prefix + name: tensor for name, tensor in weights.items()}
    torch.save({wrap: named, "iteration": 7} if wrap else named, tmp_path / "glow.pt")
    check(tmp_path / "glow.pt")


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_equals_the_published_definition(tmp_path, monkeypatch, normed, zipped):
    path = tmp_path / "waveglow_256channels.pt"
    with monkeypatch.context() as patch:
        module = as_module(published_weights(normed=normed), patch)
        torch.save(
            {"model": module, "iteration": 1, "learning_rate": 1e-4}, path, _use_new_zipfile_serialization=zipped
        )
    # The class is gone: whoever unpickled the file would fail.
    assert "glow" not in sys.modules
    check(path)


def test_half_precision_is_read_in_full(tmp_path):
    torch.save({name: tensor.half() for name, tensor in published_weights().items()}, tmp_path / "glow.pt")
    assert {p.dtype for p in read_waveglow(tmp_path / "glow.pt", AUDIO).parameters()} == {torch.float32}


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


def test_a_malicious_file_is_refused_and_nothing_in_it_runs(tmp_path):
    flag, path, output = tmp_path / "ran", tmp_path / "evil.pt", tmp_path / "out"
    torch.save({"model": published_weights() | {"extra": Evil(flag)}}, path)
    # The trap works: whoever unpickles the file runs it.
    torch.load(path, weights_only=False)
    assert flag.exists()
    flag.unlink()
    with pytest.raises(CheckpointError, match=r"asks to call posix\.system"):
        import_waveglow(path, output)
    done = CliRunner().invoke(app, ["waveglow", str(path), "-o", str(output)])
    assert isinstance(done.exception, CheckpointError)
    assert not flag.exists()
    assert not output.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": torch.ones(3)}, "holds no WaveGlow in NVIDIA's layout: 'upsample.weight'"),
        ({"upsample.weight": torch.ones(3, 3, 8)}, "is not for mels of 16000 Hz"),
        ({"model": [1, 2]}, "holds no weights"),
        (published_weights() | {"WN.1.end.bias": torch.ones(9)}, "does not fit its configuration"),
    ],
)
def test_another_checkpoint_is_refused_with_a_reason(tmp_path, data, message):
    torch.save(data, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=message):
        read_waveglow(tmp_path / "other.pt", AUDIO)


def test_the_command_writes_a_folder_that_speaks(tmp_path):
    torch.save({"model": published_weights(audio_22k())}, tmp_path / "glow.pt")
    arguments = ["waveglow", str(tmp_path / "glow.pt"), "-o", str(tmp_path / "own")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    assert "22050 Hz" in done.stdout
    vocoder = WaveGlowVocoder(load_waveglow(waveglow_folder(tmp_path / "own")))
    assert vocoder.audio == audio_22k()
    assert vocoder(torch.full((80, 5), -5.0)).shape == (5 * 256,)
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, CheckpointError)
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    found: dict = {}
    found["model"] = found
    torch.save(found, tmp_path / "loop.pt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_waveglow(tmp_path / "loop.pt")
