import numpy as np
import pytest

from lipsound2.config import audio_16k
from lipsound2.inference import picture
from lipsound2.text.alphabet import Word

AUDIO = audio_16k()


def mel(frames: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-5, 2, (80, frames)).astype(np.float32)


def inside(drawn: np.ndarray, panel: picture.Panel) -> np.ndarray:
    return drawn[panel.top : panel.bottom, panel.left : panel.right]


def test_the_loudest_bin_is_drawn_where_it_is_heard():
    quiet = np.full((80, 300), -8.0, np.float32)
    quiet[20, 150] = 0.0
    drawn = inside(np.asarray(picture.draw(quiet, [], AUDIO, 25, "a clip")).astype(int), picture.MEL)
    bright = np.argwhere(drawn[..., 0] > 200)
    row, column = bright.mean(axis=0)
    assert column / drawn.shape[1] == pytest.approx(150.5 / 300, abs=0.01)
    assert 1 - row / drawn.shape[0] == pytest.approx(20.5 / 80, abs=0.01)


@pytest.mark.parametrize("windows", [1, 300])
def test_the_diagonal_is_seen_in_clips_of_any_length(windows):
    alignments = [(75 * i, np.eye(75, dtype=np.float32)) for i in range(windows)]
    drawn = inside(np.asarray(picture.draw(mel(300 * windows), alignments, AUDIO, 25, "a")), picture.ALIGNMENT)
    bright = drawn[..., 0].astype(int) > 200
    side = len(bright)
    assert bright.any(axis=0).mean() > 0.9
    rows, columns = np.nonzero(bright)
    assert np.abs((side - 1 - rows) - columns).max() < side / min(75 * windows, side) + 3


def test_words_and_title_are_written_and_leave_the_rest_as_it_is():
    plain = np.asarray(picture.draw(mel(300), [], AUDIO, 25, ""))
    words = [Word("bin", 0.5, 0.7, 0.9), Word("blue", 0.51, 0.9, 0.9), Word("soon", 2.5, 2.8, 0.9)]
    drawn = np.asarray(picture.draw(mel(300), [], AUDIO, 25, "[b]clip 日 \udce9.mp4" * 30, words))
    above = drawn[: picture.MEL.top]
    assert (above[:50] != plain[:50]).any()
    assert (above[50:] != plain[50 : picture.MEL.top]).any()
    np.testing.assert_array_equal(drawn[picture.MEL.top :], plain[picture.MEL.top :])


def test_the_same_speech_gives_the_same_picture():
    first, second = (picture.draw(mel(40), [(0, np.eye(10, dtype=np.float32))], AUDIO, 25, "a") for _ in range(2))
    assert first.tobytes() == second.tobytes()
