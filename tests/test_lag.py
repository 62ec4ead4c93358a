import pytest
import torch
from test_model import tiny

from lipsound2.config import MelLossConfig, audio_16k
from lipsound2.data.dataset import ClipDataset, Place, collate
from lipsound2.model import LipSound2, Prediction
from lipsound2.training.lag import best_lags, shifted
from lipsound2.training.mel import MelTask, mel_statistics


@pytest.fixture(scope="module")
def spoken(prepared) -> ClipDataset:
    return ClipDataset(prepared, "train", audio_16k(), tiny().video)


def test_lags_are_found_again(spoken):
    """Sound that was moved by some frames is moved back, whatever stands beside it in the batch."""
    batch = collate([spoken[Place(0, i)] for i in range(3)])
    lags = torch.tensor([4, 0, -3])
    late = shifted(batch.mel, batch.mel_lengths, -lags)
    noise = 0.3 * torch.randn(batch.mel.shape, generator=torch.Generator().manual_seed(0))
    assert best_lags(late, batch.mel + noise, batch.mel_lengths, 6).tolist() == lags.tolist()


def test_what_is_missing_repeats_the_edge():
    mel = torch.arange(5.0).expand(2, 1, 5)
    moved = shifted(mel, torch.tensor([5, 4]), torch.tensor([2, -1]))
    assert moved[:, 0].tolist() == [[2, 3, 4, 4, 4], [0, 0, 1, 2, 3]]


def test_without_a_reason_there_is_no_lag():
    """Where all shifts fit equally well, none is taken."""
    flat = torch.zeros(1, 80, 50)
    assert best_lags(flat, flat + 1, torch.tensor([50]), 6).item() == 0


@pytest.mark.parametrize(("lag_ms", "forgiven"), [(60.0, True), (20.0, False), (0.0, False)])
def test_the_loss_forgives_a_lag_up_to_its_bound(spoken, lag_ms, forgiven):
    """A prediction that is right but 40 ms early costs nothing where so much is forgiven."""
    batch = collate([spoken[Place(0, 0)]])
    model = LipSound2(tiny())
    model.set_statistics(*mel_statistics(spoken))
    task = MelTask(model, spoken, spoken, MelLossConfig(guided_weight=0.0, lag_ms=lag_ms))
    early = shifted(batch.mel, batch.mel_lengths, torch.tensor([4]))
    early[..., -4:] = batch.mel[..., -1:]

    class RightButEarly(torch.nn.Module):
        def forward(self, *_: object) -> Prediction:
            return Prediction(early, early, torch.zeros(1, 1, 1), batch.mel_lengths)

    loss, _ = task.loss(RightButEarly(), batch, 0.0, torch.Generator())
    assert (loss.item() < 1e-6) == forgiven
