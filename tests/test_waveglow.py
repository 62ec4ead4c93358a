import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from lipsound2.audio import log_mel
from lipsound2.config import AudioConfig, to_json
from lipsound2.errors import CheckpointError, ConfigError
from lipsound2.runtime.weights import save_weights
from lipsound2.runtime.windows import windows
from lipsound2.training.config import TrainConfig
from lipsound2.training.losses import spectral_distance
from lipsound2.training.optimizers import make_optimizer
from lipsound2.vocoder import Vocoder
from lipsound2.vocoder.config import WaveGlowConfig, waveglow_256, waveglow_small
from lipsound2.vocoder.consistency import made_consistent
from lipsound2.vocoder.coupling import Coupling
from lipsound2.vocoder.denoise import bias, denoise
from lipsound2.vocoder.integers import integers_are_fast, quantize
from lipsound2.vocoder.prediction import colour, predictor, whiten
from lipsound2.vocoder.synthesis import WaveGlowVocoder, load_waveglow, waveglow_folder
from lipsound2.vocoder.waveglow import Flowed, WaveGlow, negative_log_likelihood

AUDIO = AudioConfig(sample_rate=16_000, n_fft=128, win_length=64, hop_length=16, n_mels=6)
SIZES = {"audio": AUDIO, "group": 8, "flows": 6, "layers": 2, "channels": 8, "condition": 10, "mel_mean": -3.0}
EARLY = WaveGlowConfig(**SIZES, early_every=2, early_size=2)
PREDICTING = WaveGlowConfig(**SIZES, early_size=0, lead=3, prediction=6)
CONFIGS = pytest.mark.parametrize("config", [EARLY, PREDICTING], ids=["early", "predicting"])


def make(config: WaveGlowConfig, seed: int = 0) -> WaveGlow:
    """Give a model whose couplings do something, as after some training."""
    torch.manual_seed(seed)
    model = WaveGlow(config)
    for coupling in model.couplings:
        torch.nn.init.normal_(coupling.end.weight, std=0.05)
        torch.nn.init.normal_(coupling.end.bias, std=0.05)
    return model.eval()


def sound(frames: int = 30, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Give waves and their mels."""
    generator = torch.Generator().manual_seed(seed)
    wave = 0.1 * torch.randn(batch, frames * AUDIO.hop_length, generator=generator)
    return wave, log_mel(wave, AUDIO)


def train(model: WaveGlow, steps: int, settings: TrainConfig | None = None) -> list[float]:
    optimizer = make_optimizer(model.parameters(), settings or TrainConfig(learning_rate=3e-3))
    losses = []
    for _ in range(steps):
        loss = negative_log_likelihood(model(*sound()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@CONFIGS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
@pytest.mark.parametrize("steps", [0, 5])
def test_sound_comes_back_from_its_noise(config, dtype, tolerance, steps):
    model = make(config)
    train(model, steps)
    model = model.to(dtype)
    wave, mel = (part.to(dtype) for part in sound())
    z = model(wave, mel).z
    assert z.shape == (2, config.group, wave.shape[1] // config.group)
    torch.testing.assert_close(model.infer(mel, z), wave, atol=tolerance, rtol=0)
    assert (z - wave.unflatten(1, (-1, config.group)).transpose(1, 2)).abs().max() > 0.1


@CONFIGS
def test_noise_comes_back_from_its_sound(config):
    model = make(config).double()
    mel = sound()[1].double()
    z = torch.randn(2, config.group, mel.shape[2] * config.steps_per_frame, dtype=torch.float64)
    torch.testing.assert_close(model(model.infer(mel, z), mel).z, z, atol=1e-6, rtol=0)


@CONFIGS
def test_determinants_are_those_of_the_jacobian(config):
    model = make(config).double()
    wave, mel = (part[:1].double() for part in sound(frames=4))
    flowed = model(wave, mel)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x, mel).z.flatten(), wave)[:, 0]
    expected = torch.linalg.slogdet(jacobian)[1]
    assert abs((flowed.scaled + flowed.mixed + flowed.whitened).item() - expected.item()) < 1e-8
    assert flowed.scaled.abs().item() > 0.1


def test_what_came_before_a_wave_counts_and_joins_on():
    model = make(PREDICTING).double()
    wave, mel = (part[:1].double() for part in sound())
    half, order = 15 * AUDIO.hop_length, PREDICTING.prediction
    by = model.predictor(mel)
    first, second = (type(by)(*(part[:, cut] for part in by)) for cut in (slice(15), slice(15, None)))
    past = wave[:, half - order : half]
    whole, _ = whiten(wave, by)
    joined = torch.cat([whiten(wave[:, :half], first)[0], whiten(wave[:, half:], second, past)[0]], dim=1)
    torch.testing.assert_close(joined, whole)
    torch.testing.assert_close(colour(whole[:, half:], second, past), wave[:, half:])


def test_prediction_takes_the_spectrum_off():
    audio = AudioConfig()
    noise = np.random.default_rng(0).standard_normal(16_000)
    wave = torch.from_numpy(0.01 * lfilter([1.0], [1.0, -1.6, 0.9], noise))[None]
    residual, _ = whiten(wave, predictor(log_mel(wave, audio), audio, 16))
    levels = log_mel(residual, audio).mean(dim=2)
    assert abs(residual.std().item() - 1) < 0.15
    # A filter bank of bands that widen sees white noise rise by their widths alone.
    expected = log_mel(torch.from_numpy(noise)[None], audio).mean(dim=2)
    assert (levels - expected).abs().max() < 0.5
    assert (log_mel(wave, audio).mean(dim=2) - expected).std() > 0.7


def test_no_mel_makes_the_prediction_blow_up():
    """A made mel may say anything; the filter that follows from it must stay stable."""
    audio, generator = AudioConfig(), torch.Generator().manual_seed(0)
    wild = 14.5 * torch.rand(1, 80, 200, generator=generator) - 11.5
    spike = torch.full((1, 80, 200), -11.5)
    spike[:, 10, 50:100] = spike[:, 0] = 4.0
    noise = torch.randn(1, 200 * 160, generator=generator)
    for mel in (wild, spike):
        by = predictor(mel, audio, 32)
        wave = colour(noise, by)
        assert wave.abs().max() < 1000
        torch.testing.assert_close(
            whiten(wave.double(), predictor(mel.double(), audio, 32))[0].std().item(), 1.0, atol=0.5, rtol=0
        )


@CONFIGS
@pytest.mark.parametrize("frames", [1, 7])
def test_sound_is_exactly_as_long_as_its_frames(config, frames):
    wave = WaveGlowVocoder(make(config))(torch.full((AUDIO.n_mels, frames), -3.0))
    assert wave.shape == (frames * AUDIO.hop_length,)


@pytest.mark.parametrize("optimizer", ["adamw", "novograd"])
def test_what_inference_keeps_is_never_stale(optimizer):
    model = make(EARLY)
    mel = sound()[1]
    z = torch.randn(2, EARLY.group, mel.shape[2] * EARLY.steps_per_frame)

    def renewed() -> torch.Tensor:
        fresh = WaveGlow(EARLY)
        fresh.load_state_dict(model.state_dict())
        return fresh.eval().infer(mel, z)

    seen = [model.infer(mel, z)]
    train(model, 1, TrainConfig(learning_rate=1e-2, optimizer=optimizer))
    seen.append(model.infer(mel, z))
    torch.testing.assert_close(seen[1], renewed(), atol=0, rtol=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.lerp_(torch.ones_like(parameter), 0.01)
    seen.append(model.infer(mel, z))
    torch.testing.assert_close(seen[2], renewed(), atol=0, rtol=0)
    model.load_state_dict(make(EARLY, seed=1).state_dict())
    seen.append(model.infer(mel, z))
    torch.testing.assert_close(seen[3], renewed(), atol=0, rtol=0)
    model.mixings[0].weight.data = -model.mixings[0].weight.data
    torch.testing.assert_close(model.infer(mel, z), renewed(), atol=0, rtol=0)
    torch.testing.assert_close(copy.deepcopy(model).infer(mel, z), renewed(), atol=0, rtol=0)
    assert all(not torch.allclose(a, b) for a, b in itertools.pairwise(seen))
    torch.testing.assert_close(model.double().infer(mel.double(), z.double()), renewed().double(), atol=1e-3, rtol=1e-3)


def test_folded_weights_and_inverses_are_computed_once(monkeypatch):
    model = make(EARLY)
    mel = sound()[1]
    z = torch.randn(2, EARLY.group, mel.shape[2] * EARLY.steps_per_frame)
    expected = model.infer(mel, z)

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.linalg, "inv", fail)
    monkeypatch.setattr(Coupling, "_fold", fail)
    torch.testing.assert_close(model.infer(mel, z), expected, atol=0, rtol=0)


def test_negative_log_likelihood_is_the_density_of_noise_where_nothing_is_changed():
    wave = torch.randn(2, 64)
    zero = torch.zeros(2)
    flowed = Flowed(wave.unflatten(1, (-1, 8)).transpose(1, 2), zero, zero, zero, wave, None)
    for sigma in (1.0, 0.6):
        expected = -torch.distributions.Normal(0.0, sigma).log_prob(wave).mean()
        torch.testing.assert_close(negative_log_likelihood(flowed, sigma), expected)


@CONFIGS
def test_training_lowers_the_negative_log_likelihood_and_reaches_every_parameter(config):
    model = make(config)
    wave, mel = sound()
    noise = torch.randn(2, config.group, mel.shape[2] * config.steps_per_frame)
    flowed = model(wave, mel, None, noise)
    (negative_log_likelihood(flowed) + flowed.generated.square().mean()).backward()
    missed = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missed == []
    losses = train(model, 60)
    assert losses[-1] < losses[0] - 0.5


def test_what_is_made_by_the_way_is_what_inference_makes():
    model = make(EARLY)
    wave, mel = sound()
    noise = torch.randn(2, EARLY.group, mel.shape[2] * EARLY.steps_per_frame)
    torch.testing.assert_close(model(wave, mel, None, noise).generated, model.infer(mel, noise))


@CONFIGS
@pytest.mark.parametrize(("strength", "consistency"), [(0.0, 0), (0.5, 0), (0.5, 2)])
def test_windows_and_streams_leave_no_seam(config, strength, consistency):
    config = replace(config, consistency=consistency)
    frames = 20 * config.context
    mel = torch.randn(AUDIO.n_mels, frames, generator=torch.Generator().manual_seed(0)) - 3
    model = make(config)
    whole = WaveGlowVocoder(model, half=False, denoise=strength, chunk=frames)(mel)
    assert whole.std() > 0.01
    cut = WaveGlowVocoder(model, half=False, denoise=strength, chunk=3 * config.context)
    torch.testing.assert_close(cut(mel), whole, atol=1e-4, rtol=1e-3)
    pieces = list(cut.stream(mel.split(5, dim=1)))
    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-4, rtol=1e-3)
    assert len(pieces) > 4


def test_a_stream_yields_sound_before_it_ends():
    vocoder = WaveGlowVocoder(make(PREDICTING), half=False, chunk=10)
    given = 0

    def live():
        nonlocal given
        for piece in torch.full((AUDIO.n_mels, 400), -3.0).split(10, dim=1):
            given += piece.shape[1]
            yield piece

    next(vocoder.stream(live()))
    assert given == 10 * -(-(10 + PREDICTING.context) // 10)


def test_an_empty_stream_makes_no_sound():
    assert list(WaveGlowVocoder(make(EARLY)).stream([])) == []


def test_windows_hold_what_they_say():
    numbers = torch.arange(50.0)[None]
    for sizes in ([50], [1] * 50, [7, 0, 30, 13]):
        cores, longest = [], 0
        for window in windows(numbers.split(sizes, dim=1), 8, 3):
            cores.append(window.columns[:, window.core])
            longest = max(longest, window.columns.shape[1])
            first, last = int(window.columns[0, 0]), int(window.columns[0, -1])
            assert int(cores[-1][0, 0]) - first == (3 if first else int(cores[-1][0, 0]))
            assert last - int(cores[-1][0, -1]) == 3 or last == 49
        assert torch.equal(torch.cat(cores, dim=1), numbers)
        assert longest <= 8 + 2 * 3


def test_noise_decides_what_is_made():
    model, mel = make(EARLY), sound()[1][0]
    made = [WaveGlowVocoder(model, half=False, seed=seed)(mel) for seed in (0, 0, 1)]
    assert torch.equal(made[0], made[1])
    assert not torch.allclose(made[0], made[2])
    still = [WaveGlowVocoder(model, sigma=0.0, half=False, seed=seed)(mel) for seed in (0, 1)]
    assert torch.equal(*still)


def test_half_precision_makes_nearly_the_same_sound():
    model, mel = make(PREDICTING), sound()[1][0]
    full, half = (WaveGlowVocoder(model, half=half)(mel) for half in (False, True))
    assert 0 < (full - half).std() < 0.05 * full.std()


@pytest.mark.skipif(not integers_are_fast(torch.device("cpu")), reason="this processor has no VNNI")
@pytest.mark.parametrize(
    "config", [EARLY, replace(PREDICTING, kernel=5), waveglow_small()], ids=["early", "5", "small"]
)
def test_integers_make_nearly_the_same_sound(config, monkeypatch):
    monkeypatch.setattr("lipsound2.vocoder.integers.BLOCK", 64)
    model = make(config)
    mel = torch.randn(config.audio.n_mels, 30, generator=torch.Generator().manual_seed(0)) - 3
    full, whole = (WaveGlowVocoder(model, half=False, integers=integers)(mel) for integers in (False, True))
    assert 0 < (full - whole).std() < 0.03 * full.std()
    # What is kept of the weights follows them.
    model.load_state_dict(make(config, seed=1).state_dict())
    full, whole = (WaveGlowVocoder(model, half=False, integers=integers)(mel) for integers in (False, True))
    assert 0 < (full - whole).std() < 0.03 * full.std()


def test_integers_round_to_the_nearest():
    for x in (torch.linspace(-3, 1, 99), torch.linspace(0.5, 2, 99), torch.zeros(99), torch.linspace(-2, -1, 99)):
        rows = quantize(x[:, None])
        back = (rows.numbers.float() - rows.zero) * rows.scale
        assert (back[:, 0] - x).abs().max() <= 0.501 * rows.scale


def test_the_denoiser_takes_the_hum_off():
    model = make(EARLY)
    hum = bias(model)
    mel = torch.full((1, AUDIO.n_mels, 60), EARLY.mel_mean)
    own = model.infer(mel, torch.zeros(1, EARLY.group, 60 * EARLY.steps_per_frame))
    middle = slice(20 * AUDIO.hop_length, 40 * AUDIO.hop_length)
    assert denoise(own, hum, 1.0, AUDIO)[:, middle].std() < 0.2 * own[:, middle].std()
    torch.testing.assert_close(denoise(own, hum, 0.0, AUDIO), own, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("times", [1, 3])
def test_consistency_brings_the_mel_nearer_and_leaves_what_is_right(times):
    wave, mel = sound(frames=60, batch=1)
    wrong = wave * (1 + 0.9 * torch.linspace(0, 20, wave.shape[1]).sin())
    before, after = (
        (log_mel(made, AUDIO) - mel).abs().mean() for made in (wrong, made_consistent(wrong, mel[0], AUDIO, times))
    )
    assert after < 0.5 * before
    torch.testing.assert_close(made_consistent(wave, mel[0], AUDIO, times), wave, atol=1e-4, rtol=0)


def test_a_sample_is_changed_by_nothing_beyond_the_context():
    for config in (EARLY, PREDICTING):
        model = make(config)
        frames = 3 * config.context
        mel = torch.full((1, AUDIO.n_mels, frames), -3.0)
        other = mel.clone()
        other[..., -1] += 1
        z = torch.randn(1, config.group, frames * config.steps_per_frame)
        first, second = (model.unflow(m, z)[0].unflatten(0, (frames, -1)) for m in (mel, other))
        changed = (first != second).any(dim=1).nonzero()[:, 0]
        assert 0 < frames - 1 - changed.min() <= config.context


def test_spectral_distance_ignores_phase_and_hears_loudness():
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(4096) / 16_000)[None]
    assert spectral_distance(-tone, tone) < 1e-4
    # All magnitudes are halved: the convergence is 0.5 and the logarithms differ by log 2, where it is not quiet.
    assert 0.5 < spectral_distance(0.5 * tone, tone) < 0.5 + math.log(2)
    silent = torch.zeros(1, 4096, requires_grad=True)
    spectral_distance(silent, tone).backward()
    assert silent.grad.isfinite().all()


def test_the_full_preset_has_the_published_sizes():
    with torch.device("meta"):
        model = WaveGlow(waveglow_256())
    assert waveglow_256().widths == [8] * 4 + [6] * 4 + [4] * 4
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(87.7, abs=0.2)
    assert (model.upsample.kernel_size, model.upsample.stride) == ((128,), (32,))


def test_the_small_preset_makes_sound_at_16_khz():
    torch.manual_seed(0)
    vocoder = WaveGlowVocoder(WaveGlow(waveglow_small()).eval())
    assert isinstance(vocoder, Vocoder)
    assert vocoder.audio == AudioConfig()
    mel = log_mel(0.1 * torch.randn(1, 16_000), AudioConfig())[0]
    # Before any training, noise is coloured by the linear prediction of the mel.
    error = (log_mel(vocoder(mel)[None], AudioConfig())[0] - mel)[:, 5:-5].mean()
    assert abs(error - math.log(waveglow_small().sigma)) < 0.3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group": 10}, "the hop of 16 samples is not a multiple of the group, 10"),
        ({"kernel": 2}, "an odd kernel"),
        ({"lead": 7}, "the lead of 7 steps"),
        ({"early_size": 3}, "even number of channels"),
        ({"prediction": 17}, "a prediction of order 17"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        WaveGlowConfig(**SIZES | {"early_every": 2} | wrong)


def test_a_waveglow_is_rebuilt_from_its_folder(tmp_path):
    model = make(EARLY)
    best = tmp_path / "run" / "best"
    best.mkdir(parents=True)
    (best / "config.json").write_text(to_json(EARLY))
    save_weights(best / "model.safetensors", model.state_dict())
    for folder in (tmp_path / "run", best):
        rebuilt = load_waveglow(waveglow_folder(folder))
        assert rebuilt.config == EARLY
        assert all(torch.equal(a, b) for a, b in zip(rebuilt.parameters(), model.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="holds no WaveGlow"):
        waveglow_folder(tmp_path)
