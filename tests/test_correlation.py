import numpy as np
import pytest
import torch
from pystoi import stoi
from test_model import tiny

from lipsound2.audio import griffin_lim
from lipsound2.config import audio_16k, audio_22k
from lipsound2.data.dataset import ClipDataset
from lipsound2.training.correlation import envelope_correlation

CONFIG = audio_16k()


@pytest.fixture(scope="module")
def mel(prepared) -> torch.Tensor:
    """The log-mel of simulated speech."""
    return ClipDataset(prepared, "train", CONFIG, tiny().video).mel(0)[None]


def likeness(true: torch.Tensor, predicted: torch.Tensor) -> float:
    return envelope_correlation(true, predicted, torch.tensor([true.shape[-1]]), CONFIG).item()


def test_equal_mels_are_alike_however_loud(mel):
    assert likeness(mel, mel) == pytest.approx(1, abs=1e-3)
    assert likeness(mel, mel + 1.5) == pytest.approx(1, abs=1e-3)


def test_it_ranks_as_stoi_and_estoi_do(mel):
    """The more a mel is blurred, the less alike; the figures stay close to those of the waveform."""
    true = griffin_lim(mel, CONFIG)[0].numpy()
    found, measured = [], []
    for width in (1, 9, 25, 61):
        blurred = torch.nn.functional.avg_pool1d(mel, width, 1, width // 2, count_include_pad=False)
        wave = griffin_lim(blurred, CONFIG)[0].numpy()
        measured.append(np.mean([stoi(true, wave, 16_000, extended=extended) for extended in (False, True)]))
        found.append(likeness(mel, blurred))
    assert found == sorted(found, reverse=True)
    assert measured == sorted(measured, reverse=True)
    assert found[1:] == pytest.approx(measured[1:], abs=0.12)


def test_padding_and_company_change_nothing(mel):
    noise = mel + torch.randn(mel.shape, generator=torch.Generator().manual_seed(0))
    alone = likeness(mel, noise)
    short = mel[..., :100]
    batch = torch.zeros(2, *mel.shape[1:])
    batch[0], batch[1, :, :100] = mel[0], short[0]
    predicted = torch.randn(batch.shape, generator=torch.Generator().manual_seed(1))
    predicted[0] = noise[0]
    both = envelope_correlation(batch, predicted, torch.tensor([mel.shape[-1], 100]), CONFIG)
    assert both[0].item() == pytest.approx(alone, abs=1e-3)
    assert both[1].item() == pytest.approx(likeness(short, predicted[1:, :, :100]), abs=1e-3)


def test_silence_does_not_count(mel):
    """Far from speech, frames that are silent in the reference get no gradient."""
    silence = torch.full((1, 80, 100), -11.5)
    true = torch.cat([mel, silence], dim=2)
    predicted = (true + 0.3 * torch.randn(true.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    (1 - envelope_correlation(true, predicted, torch.tensor([true.shape[-1]]), CONFIG)).sum().backward()
    assert predicted.grad is not None
    assert torch.isfinite(predicted.grad).all()
    assert predicted.grad[..., -50:].abs().max() == 0


def test_any_audio_config_and_short_clips():
    config = audio_22k()
    mel = torch.randn(1, 80, 60, generator=torch.Generator().manual_seed(0))
    assert envelope_correlation(mel, mel, torch.tensor([60]), config).item() == pytest.approx(1, abs=1e-3)
    assert envelope_correlation(mel[..., :20], mel[..., :20], torch.tensor([20]), config).item() == 0


def test_descent_on_it_makes_mels_alike(mel):
    blurred = torch.nn.functional.avg_pool1d(mel, 25, 1, 12).requires_grad_()
    before = likeness(mel, blurred.detach())
    optimizer = torch.optim.Adam([blurred], 0.05)
    for _ in range(30):
        optimizer.zero_grad()
        (1 - envelope_correlation(mel, blurred, torch.tensor([mel.shape[-1]]), CONFIG)).sum().backward()
        optimizer.step()
    assert likeness(mel, blurred.detach()) > before + 0.1
