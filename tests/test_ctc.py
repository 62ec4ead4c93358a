import itertools
import math

import numpy as np
import pytest
import torch

from lipsound2.recognizer import ctc
from lipsound2.recognizer.config import TimingConfig
from lipsound2.recognizer.jasper import Posteriors
from lipsound2.text.alphabet import Alphabet
from lipsound2.training.losses import ctc_loss, quiet_loss


def posteriors(path: str, letters: str, sure: float = 0.9) -> np.ndarray:
    """Make log posteriors whose best path is `path`; `-` is the blank."""
    values = np.full((len(path), len(letters) + 1), (1 - sure) / len(letters))
    for frame, letter in enumerate(path):
        values[frame, len(letters) if letter == "-" else letters.index(letter)] = sure
    return np.log(values).astype(np.float32)


def random_posteriors(frames: int, symbols: int, seed: int) -> np.ndarray:
    values = torch.randn(frames, symbols, generator=torch.Generator().manual_seed(seed))
    return values.log_softmax(dim=-1).numpy()


def test_the_loss_is_the_sum_over_all_paths():
    values = random_posteriors(5, 3, 0)
    target = [0, 1, 1]
    total = sum(
        math.exp(sum(values[frame, symbol] for frame, symbol in enumerate(path)))
        for path in itertools.product(range(3), repeat=5)
        if ctc.collapse(list(path), 2) == target
    )
    found = ctc_loss(
        Posteriors(torch.from_numpy(values)[None], torch.tensor([5])), torch.tensor([target]), torch.tensor([3])
    )
    assert found.item() == pytest.approx(-math.log(total) / 3, rel=1e-5)


def test_the_loss_ignores_padding_and_empty_clips_weigh_like_others():
    values = torch.from_numpy(np.stack([random_posteriors(6, 4, seed) for seed in (1, 2)]))
    symbols, lengths = torch.tensor([[0, 1], [2, 0]]), torch.tensor([2, 0])
    found = ctc_loss(Posteriors(values, torch.tensor([6, 4])), symbols, lengths)
    changed = values.clone()
    changed[1, 4:] = -5.0
    assert ctc_loss(Posteriors(changed, torch.tensor([6, 4])), symbols, lengths) == found
    blank = -values[1, :4, 3].sum()
    first = ctc_loss(Posteriors(values[:1], torch.tensor([6])), symbols[:1], lengths[:1])
    assert found == pytest.approx((first.item() * 2 + blank.item()) / 2, rel=1e-5)
    none = ctc_loss(Posteriors(values[:1], torch.tensor([1])), symbols[:1], lengths[:1])
    assert none == 0, "a target that is too long costs nothing"


def test_words_in_silence_cost():
    values = torch.from_numpy(posteriors("a-b-", "ab"))[None]
    quiet = torch.tensor([[True, True, False, False, True]])
    found = quiet_loss(Posteriors(values, torch.tensor([4])), quiet, torch.tensor([2]))
    assert found.item() == pytest.approx(-(math.log(0.05) + math.log(0.9)) / 2, rel=1e-5)


def test_words_have_times_and_confidences():
    letters = "ab "
    values = posteriors("--aa-b-- --bb-bb-", letters)
    found = ctc.words(values, ctc.best_path(values), Alphabet(letters), 0.02, TimingConfig())
    assert [word.text for word in found] == ["ab", "bb"]
    assert [(word.start, word.end) for word in found] == [pytest.approx((0.04, 0.12)), pytest.approx((0.22, 0.32))]
    assert found[0].confidence == pytest.approx(0.9, abs=1e-5)


@pytest.mark.parametrize(("blanks", "expected"), [(29, ["abbb"]), (32, ["ab", "bb"])])
def test_a_long_pause_ends_a_word_whose_separator_is_missed(blanks, expected):
    values = posteriors("ab" + "-" * blanks + "b-b", "ab ")
    found = ctc.words(values, ctc.best_path(values), Alphabet("ab "), 0.02, TimingConfig())
    assert [word.text for word in found] == expected


def test_timing_widens_words_without_overlap():
    letters = "ab "
    values = posteriors("a b------b", letters)
    timing = TimingConfig(before=0.03, after=0.09)
    found = ctc.words(values, ctc.best_path(values), Alphabet(letters), 0.02, timing)
    assert found[0].start == 0
    assert found[0].end == found[1].start == pytest.approx(0.02 + 0.02 * 0.75)
    assert found[1].end == pytest.approx(0.2), "not beyond the wave"


def test_alignment_finds_the_best_path_of_a_text():
    for seed in range(5):
        values = random_posteriors(6, 3, seed)
        for target in ([0], [0, 0], [0, 1, 0], []):
            paths = [path for path in itertools.product(range(3), repeat=6) if ctc.collapse(list(path), 2) == target]
            best = max(paths, key=lambda path: sum(values[frame, symbol] for frame, symbol in enumerate(path)))
            assert ctc.align(values, target) == list(best)
    with pytest.raises(ValueError, match="do not fit"):
        ctc.align(random_posteriors(2, 3, 0), [0, 0])
