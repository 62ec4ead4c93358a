import numpy as np
import pytest

from lipsound2.config import audio_16k
from lipsound2.inference import picture
from lipsound2.inference.picture import Scene
from lipsound2.inference.stretches import Stretch
from lipsound2.text.alphabet import Word

AUDIO = audio_16k()


def mel(frames: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-5, 2, (80, frames)).astype(np.float32)


def inside(drawn: np.ndarray, panel: picture.Panel) -> np.ndarray:
    return drawn[panel.top : panel.bottom, panel.left : panel.right]


def test_the_loudest_bin_is_drawn_where_it_is_heard():
    quiet = np.full((80, 300), -8.0, np.float32)
    quiet[20, 150] = 0.0
    drawn = inside(np.asarray(picture.draw(quiet, [], AUDIO, 25, Scene("a clip"))).astype(int), picture.MEL)
    bright = np.argwhere(drawn[..., 0] > 200)
    row, column = bright.mean(axis=0)
    assert column / drawn.shape[1] == pytest.approx(150.5 / 300, abs=0.01)
    assert 1 - row / drawn.shape[0] == pytest.approx(20.5 / 80, abs=0.01)


def test_the_diagonal_is_seen():
    alignments = [(75 * i, np.eye(75, dtype=np.float32)) for i in range(10)]
    drawn = inside(np.asarray(picture.draw(mel(3000), alignments, AUDIO, 25, Scene("a"))), picture.ALIGNMENT)
    bright = drawn[..., 0].astype(int) > 200
    side = len(bright)
    assert bright.any(axis=0).mean() > 0.9
    rows, columns = np.nonzero(bright)
    assert np.abs((side - 1 - rows) - columns).max() < side / min(750, side) + 3


@pytest.mark.parametrize(("minutes", "rows"), [(0.75, 2), (10, 20), (120, 40)])
def test_long_speech_has_rows_and_the_attention_is_seen_in_each(minutes, rows):
    windows = round(minutes * 20)
    alignments = [(75 * i, np.eye(75, dtype=np.float32)) for i in range(windows)]
    drawn = np.asarray(picture.draw(mel(300 * windows), alignments, AUDIO, 25, Scene("a"))).astype(int)
    assert (len(drawn) - picture.LONG.top) // picture.PITCH == rows
    for row in range(rows):
        top = picture.STRIP.top + 26 + row * picture.PITCH
        strip = drawn[top : top + picture.STRIP.height, picture.STRIP.left : picture.STRIP.right, 0]
        middle = len(strip) // 2
        seen = (strip > 200).any(axis=1)
        assert seen[middle]
        assert not seen[: middle - 2].any()
        assert not seen[middle + 3 :].any()


def test_faces_cuts_and_stretches_without_a_face_are_shown():
    face = np.full((160, 160, 3), (0, 0, 255), np.uint8)
    stretches = (Stretch(0.0, 1.0, portrait=face), Stretch(1.0, 2.0, portrait=face), Stretch(2.5, 3.0, portrait=face))
    drawn = np.asarray(picture.draw(mel(300), [], AUDIO, 25, Scene("a", (), stretches, ((2.0, 2.5),))))
    columns = np.flatnonzero((drawn[: picture.MEL.top] == (0, 0, 255)).all(axis=-1).any(axis=0))
    begins = columns[np.flatnonzero(np.diff(columns, prepend=-9) > 1)] - picture.MEL.left
    assert begins.tolist() == [0, round(picture.MEL.width / 3), round(picture.MEL.width / 1.2)]
    cuts = np.flatnonzero((inside(drawn, picture.MEL) == (255, 0, 0)).all(axis=-1).any(axis=0))
    assert cuts.tolist() == [round(picture.MEL.width / 3)]
    pale = (inside(drawn, picture.MEL)[0] == picture._PALE).all(axis=-1)
    assert pale.mean() == pytest.approx(1 / 6, abs=0.01)


def test_words_and_title_are_written_and_leave_the_rest_as_it_is():
    plain = np.asarray(picture.draw(mel(300), [], AUDIO, 25, Scene()))
    words = (Word("bin", 0.5, 0.7, 0.9), Word("blue", 0.51, 0.9, 0.9), Word("soon", 2.5, 2.8, 0.9))
    drawn = np.asarray(picture.draw(mel(300), [], AUDIO, 25, Scene("[b]clip 日 \udce9.mp4" * 30, words)))
    above = drawn[: picture.MEL.top]
    assert (above[:40] != plain[:40]).any()
    assert (above[80:] != plain[80 : picture.MEL.top]).any()
    np.testing.assert_array_equal(drawn[picture.MEL.top :], plain[picture.MEL.top :])


def test_the_same_speech_gives_the_same_picture():
    first, second = (
        picture.draw(mel(40), [(0, np.eye(10, dtype=np.float32))], AUDIO, 25, Scene("a")) for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()
