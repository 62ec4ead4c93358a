import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipsound2.errors import ConfigError, DataError
from lipsound2.text.alphabet import Alphabet, edit_distance, error_rates


def test_english_is_brought_into_the_alphabet():
    alphabet = Alphabet()
    assert alphabet.clean("  Set  WHITE; it’s\tL.A.!") == "set white it's l a"
    assert alphabet.decode(alphabet.encode("It's one")) == "it's one"
    assert alphabet.blank == 28
    assert alphabet.words("bin blue") == ["bin", "blue"]


def test_characters_are_words_where_no_space_parts_them():
    chinese = Alphabet("你好吗我很")
    assert chinese.separator == ""
    assert chinese.clean("你好，我 很好。") == "你好我很好"
    assert chinese.words("你好") == ["你", "好"]
    assert chinese.encode("吗你") == [2, 0]


def test_letters_that_are_unknown_are_refused_by_name():
    with pytest.raises(DataError, match="'7', which is not in"):
        Alphabet().clean("route 7")
    with pytest.raises(ConfigError, match="different characters"):
        Alphabet("aab")


def test_capitals_are_kept_where_the_alphabet_has_them():
    assert Alphabet("abAB ").clean("Ab, bA") == "Ab bA"


def test_known_error_rates():
    rates = error_rates([("bin blue at f two now", "bin blue at s now"), ("lay red", "lay red")])
    assert rates.wer == pytest.approx(2 / 8)
    assert rates.cer == pytest.approx((1 + 4) / (21 + 7))
    assert error_rates([("a b", "")]).wer == 1
    assert error_rates([]) == (0, 0)


@given(st.text("abc", max_size=8), st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_edit_distance_is_a_metric(x, y, z):
    assert edit_distance(x, y) == edit_distance(y, x)
    assert (edit_distance(x, y) == 0) == (x == y)
    assert edit_distance(x, z) <= edit_distance(x, y) + edit_distance(y, z)
    assert abs(len(x) - len(y)) <= edit_distance(x, y) <= max(len(x), len(y))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_error_rates_are_those_of_jiwer(said, heard):
    jiwer = pytest.importorskip("jiwer")
    said, heard = " ".join(said), " ".join(heard)
    assert error_rates([(said, heard)]) == (jiwer.wer(said, heard), jiwer.cer(said, heard))
