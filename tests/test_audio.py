from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pystoi import stoi

from lipsound2.audio import fine, griffin_lim, log_mel, mel_basis, mel_frequencies, mel_to_magnitude, resample
from lipsound2.config import AudioConfig, audio_16k, audio_22k
from lipsound2.errors import ConfigError
from lipsound2.vocoder import GriffinLim


def speech_like(seconds: float, rate: int = 16_000) -> torch.Tensor:
    """A voiced buzz whose pitch and formants move, with pauses."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time)
    buzz = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / rate) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time), 0, None)
    noise = np.random.default_rng(0).normal(size=len(time)) * 0.02
    return torch.from_numpy((0.1 * buzz * syllables + noise * syllables).astype(np.float32))[None]


@pytest.mark.parametrize("config", [audio_16k(), audio_22k()])
def test_log_mel_equals_librosa(config):
    wave = speech_like(1.03)
    frames = wave.shape[1] // config.hop_length
    expected = librosa.feature.melspectrogram(
        y=wave[0, : frames * config.hop_length].numpy(),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        power=1.0,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        pad_mode="constant",
    )[:, :frames]
    ours = log_mel(wave, config)[0].numpy()
    np.testing.assert_allclose(ours, np.log(np.maximum(expected, config.floor)), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 400))
def test_four_mel_frames_a_video_frame_exactly(frames):
    config = audio_16k()
    assert config.mel_frames(frames, 25) == 4 * frames
    wave = torch.zeros(1, frames * config.sample_rate // 25)
    assert log_mel(wave, config).shape == (1, 80, 4 * frames)


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 400))
def test_mel_frames_of_a_fractional_rate_are_those_of_the_wave(frames):
    config = audio_22k()
    wave = torch.zeros(1, frames * config.sample_rate // 25)
    assert log_mel(wave, config).shape[2] == config.mel_frames(frames, 25)


def test_magnitude_has_the_mel_it_was_made_from():
    config = audio_16k()
    mel = log_mel(speech_like(0.5), config)
    magnitude = mel_to_magnitude(mel, config, iterations=200)
    basis = torch.from_numpy(librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=80, fmin=0, fmax=8000))
    again = (basis @ magnitude).clamp(min=config.floor).log()
    assert (again - mel).abs().mean() < 0.02


def test_griffin_lim_is_intelligible_and_exactly_as_long_as_the_frames():
    config = audio_16k()
    wave = speech_like(2.0)
    mel = log_mel(wave, config)
    rebuilt = griffin_lim(mel, config)
    assert rebuilt.shape == (1, mel.shape[2] * config.hop_length)
    assert stoi(wave[0].numpy(), rebuilt[0].numpy(), 16_000) > 0.9


@pytest.mark.parametrize("config", [audio_16k(), audio_22k()])
def test_griffin_lim_is_as_loud_as_the_mel(config):
    mel = log_mel(speech_like(2.0, config.sample_rate), config)
    for change in (0.0, -3.0):
        again = log_mel(griffin_lim(mel + change, config), config)
        assert abs((again.exp().sum() / (mel + change).exp().sum()).item() - 1) < 0.01


def test_griffin_lim_makes_steady_sound_of_a_smooth_mel():
    """The envelope of what a blurred mel becomes may flutter no more than half as much as that of noise."""
    config = audio_16k()
    smooth = torch.linspace(0, -3, config.n_mels)[None, :, None].expand(1, -1, 200)
    noise = torch.randn(1, 200 * config.hop_length, generator=torch.Generator().manual_seed(0))
    made, plain = (log_mel(wave, fine(config))[..., 20:-20] for wave in (griffin_lim(smooth, config), noise))
    assert made.std(dim=2).mean() < 0.5 * plain.std(dim=2).mean()


def test_griffin_lim_in_chunks_has_no_seam():
    config = audio_16k()
    mel = log_mel(speech_like(6.0), config)[0]
    whole = GriffinLim(config, iterations=30, chunk=10_000)(mel)
    chunks = GriffinLim(config, iterations=30, chunk=200, overlap=50)(mel)
    assert chunks.shape == whole.shape
    error = (log_mel(chunks[None], config) - mel).abs().mean(dim=(0, 1))
    seams = [f for start in range(150, mel.shape[1] - 50, 150) for f in range(start, start + 50)]
    elsewhere = [f for f in range(mel.shape[1]) if f not in seams]
    assert error[seams].mean() < 1.3 * error[elsewhere].mean()


def test_griffin_lim_of_any_length():
    config = audio_16k()
    vocoder = GriffinLim(config, iterations=2, chunk=100, overlap=20)
    for frames in (1, 4, 20, 99, 100, 101, 119, 180, 181, 333):
        assert vocoder(torch.zeros(80, frames)).shape == (frames * 160,)


def test_config_refuses_what_cannot_be():
    with pytest.raises(ConfigError, match="win_length"):
        AudioConfig(win_length=2048)
    with pytest.raises(ConfigError, match="hop_length"):
        AudioConfig(hop_length=161)
    with pytest.raises(ConfigError, match="f_max"):
        AudioConfig(f_max=9000.0)


@pytest.mark.parametrize(
    "config", [audio_16k(), audio_22k(), replace(audio_16k(), n_mels=64, f_min=50.0, f_max=7600.0)]
)
def test_mel_filters_are_those_of_librosa_to_the_last_bit(config):
    expected = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max
    )
    assert np.array_equal(mel_basis(config).numpy(), expected)
    edges = librosa.mel_frequencies(config.n_mels, fmin=config.f_min, fmax=config.f_max)
    assert np.array_equal(mel_frequencies(config.n_mels, config.f_min, config.f_max), edges)


def test_a_tone_keeps_its_pitch_when_it_is_resampled():
    tone = np.sin(2 * np.pi * 1000 * np.arange(22_050) / 22_050).astype(np.float32)
    made = resample(tone, 22_050, 16_000)
    assert (len(made), made.dtype) == (16_000, np.float32)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    assert np.abs(made - expected)[100:-100].max() < 0.01
    assert resample(tone, 16_000, 16_000) is tone
