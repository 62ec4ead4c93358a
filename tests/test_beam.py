import itertools
import math

import numpy as np
import pytest
from test_ctc import posteriors, random_posteriors

from lipsound2.errors import DataError
from lipsound2.recognizer import ctc
from lipsound2.recognizer.beam import Beam, BeamConfig
from lipsound2.recognizer.ngram import END, START, NGram, read_arpa, train_ngram, write_arpa
from lipsound2.text.alphabet import Alphabet

SENTENCES = [line.split() for line in ("bin blue at", "bin red at", "lay blue by", "lay blue at")]


def exact(values: np.ndarray) -> list[int]:
    """Return the most probable text of short posteriors by trying all paths."""
    blank = values.shape[1] - 1
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(blank + 1), repeat=len(values)):
        text = tuple(ctc.collapse(list(path), blank))
        totals[text] = totals.get(text, 0.0) + math.exp(sum(values[frame, s] for frame, s in enumerate(path)))
    return list(max(totals, key=totals.__getitem__))


def test_a_wide_beam_finds_the_most_probable_text():
    alphabet = Alphabet("ab")
    beam = Beam(alphabet, None, BeamConfig(width=100))
    found = [
        (beam.search(v), exact(v), ctc.collapse(ctc.best_path(v), 2))
        for v in (random_posteriors(6, 3, s) for s in range(20))
    ]
    assert [row[0] for row in found] == [row[1] for row in found]
    assert any(row[0] != row[2] for row in found), "or greedy would do"


def test_words_and_language_mend_what_was_misheard():
    alphabet = Alphabet()
    said = "bin blue at"
    values = posteriors("-".join("bin blve a"), alphabet.characters, 0.8)
    # The v is nearly a u, and a is followed by a weak t.
    u = values[:, alphabet.characters.index("u")]
    u[:] = np.where(values[:, alphabet.characters.index("v")] > -1, -1.7, u)
    values = np.concatenate([values, posteriors("--", alphabet.characters, 0.6)])
    values[-1, alphabet.characters.index("t")] = -2.0
    beam = Beam(alphabet, train_ngram(SENTENCES), BeamConfig())
    assert alphabet.decode(beam.search(values)) == said
    assert alphabet.decode(Beam(alphabet, None, BeamConfig()).search(values)) == "bin blve a"


def test_only_listed_words_are_read_unless_the_list_is_open():
    alphabet = Alphabet()
    values = posteriors("-".join("bin xxx at"), alphabet.characters, 0.99)
    language = train_ngram(SENTENCES)
    closed = alphabet.decode(Beam(alphabet, language, BeamConfig(least=-20.0)).search(values)).split()
    assert set(closed) <= set(language.words)
    opened = Beam(alphabet, language, BeamConfig(closed=False)).search(values)
    assert alphabet.decode(opened) == "bin xxx at"


def test_characters_are_words_in_scripts_without_spaces():
    alphabet = Alphabet("你好吗我")
    language = train_ngram([list("你好吗"), list("我好")])
    values = posteriors("你-好-吗", alphabet.characters, 0.6)
    assert alphabet.decode(Beam(alphabet, language, BeamConfig()).search(values)) == "你好吗"


def test_probabilities_after_every_history_sum_to_one():
    language = train_ngram(SENTENCES, order=3)
    for history in ([START], [START, "bin"], [START, "lay", "blue"], [START, "at"], [START, "never", "seen"]):
        total = sum(math.exp(language.score(history, word)) for word in [*language.words, END, "never seen"])
        assert total == pytest.approx(1.0, abs=1e-9)
    assert language.score([START], "bin") > language.score([START], "blue")
    assert language.words == ["at", "bin", "blue", "by", "lay", "red"]


def test_arpa_files_come_back_and_others_are_refused(tmp_path):
    language = train_ngram(SENTENCES, order=3)
    write_arpa(tmp_path / "a.arpa", language)
    again = read_arpa(tmp_path / "a.arpa")
    assert again.order == 3
    for history, word in (([START, "lay"], "blue"), ([START, "bin", "blue"], "by"), ([START], "new")):
        assert again.score(history, word) == pytest.approx(language.score(history, word), abs=1e-5)
    (tmp_path / "bad.arpa").write_text("no model")
    for name in ("bad.arpa", "missing.arpa"):
        with pytest.raises(DataError, match="not an ARPA"):
            read_arpa(tmp_path / name)
    with pytest.raises(DataError, match="without words"):
        NGram({}, {})
