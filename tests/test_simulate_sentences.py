import pytest

from lipsound2.corpora.grid import sentence as grid_sentence
from lipsound2.errors import ConfigError, DataError
from lipsound2.simulate import lexicon
from lipsound2.simulate.sentences import GRAMMARS, Word, grammar, held_out_by
from lipsound2.simulate.studio import SimulateConfig, Studio


def test_the_first_and_the_last_sentence_of_grid():
    grid = grammar("grid")
    assert grid.size == 4 * 4 * 4 * 25 * 10 * 4
    assert grid.sentence(0).name == "bbaaza"
    assert grid.sentence(0).transcript == "bin blue at a zero again"
    assert grid.sentence(grid.size - 1).transcript == "set white with z nine soon"


def test_names_spell_sentences_as_in_grid_itself():
    grid = grammar("grid")
    for number in range(0, grid.size, 997):
        sentence = grid.sentence(number)
        assert grid_sentence(sentence.name) == sentence.transcript


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_speaker_says_nothing_twice(name):
    chosen = grammar(name)
    numbers = chosen.for_speaker(seed=3, speaker=1)
    names = {chosen.sentence(number).name for number in numbers}
    assert len(names) == len(numbers) == 1000
    assert numbers == chosen.for_speaker(seed=3, speaker=1)
    assert numbers != chosen.for_speaker(seed=3, speaker=2)


def test_digit_strings():
    assert grammar("digits").sentence(407).transcript == "zero zero four zero seven"


def test_three_letters_stand_each_between_preposition_and_digit():
    letters = grammar("letters")
    assert letters.size == (4 * 25 * 10) ** 3
    assert letters.sentence(0).transcript == "at a zero at a zero at a zero"
    assert letters.sentence(letters.size - 1).transcript == "with z nine with z nine with z nine"
    assert [word.kind for word in letters.sentence(0).words] == ["preposition", "letter", "digit"] * 3


def test_every_word_of_every_grammar_can_be_said():
    for name in GRAMMARS:
        chosen = grammar(name)
        for number in chosen.for_speaker(0, 0)[:200]:
            for word in chosen.sentence(number).words:
                assert lexicon.pronounce(word)
                assert lexicon.pronounce(word, british=True)


def test_the_letter_a_is_not_the_article():
    assert lexicon.pronounce(Word("a", "letter")) == "ˈA"
    assert lexicon.pronounce(Word("a", "text")) == "ɐ"


def test_accents_differ():
    assert lexicon.pronounce(Word("z", "letter")) == "zˈi"
    assert lexicon.pronounce(Word("z", "letter"), british=True) == "zˈɛd"


def test_a_text_file_is_read_line_by_line(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The cat sat.\n\n  I don’t — know!\nThe cat sat\n", encoding="utf-8")
    lines = grammar("grid", text)
    assert [lines.sentence(i).transcript for i in range(lines.size)] == ["the cat sat", "i don't know"]


def test_a_text_without_words_is_an_error(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("---\n", encoding="utf-8")
    with pytest.raises(DataError, match="no sentence"):
        grammar("grid", text)


def test_unknown_words_are_named_at_once():
    pytest.importorskip("misaki", reason="the dictionaries of misaki are not installed")
    words = [Word("table", "text"), Word("xqzvk", "text"), Word("wrzlbrmpft", "text")]
    with pytest.raises(DataError, match="2 words: xqzvk, wrzlbrmpft"):
        lexicon.check(words)


def test_an_unknown_grammar_names_the_known_ones():
    with pytest.raises(ConfigError) as error:
        grammar("klingon")
    assert "grid, letters, digits, english" in error.value.hint


def test_no_two_splits_share_a_sentence():
    studio = Studio(SimulateConfig(clips=4000, speakers=8, val=0.1, test=0.2))
    splits: dict[str, set[str]] = {}
    plans = [studio.plan(clip) for clip in range(4000)]
    for plan in plans:
        splits.setdefault(plan.sentence.name, set()).add(plan.split)
    assert all(len(found) == 1 for found in splits.values())
    assert sum(plan.split == "test" for plan in plans) == pytest.approx(800, abs=80)


def test_more_clips_leave_the_first_as_they_are():
    few, many = Studio(SimulateConfig(clips=10, speakers=4)), Studio(SimulateConfig(clips=400, speakers=4))
    assert [few.plan(clip) for clip in range(10)] == [many.plan(clip) for clip in range(10)]


def test_too_many_clips_ask_for_speakers():
    with pytest.raises(ConfigError, match="at most 2000 clips") as error:
        Studio(SimulateConfig(clips=2001, speakers=2))
    assert "--speakers" in error.value.hint


def test_what_another_corpus_holds_out_is_held_out_here(tmp_path):
    studio = Studio(SimulateConfig(clips=200))
    train = [plan.sentence.name for clip in range(200) if (plan := studio.plan(clip)).split == "train"]
    (tmp_path / "splits.csv").write_text(f"clip,split\ns1/{train[0]},test\ns4/{train[0]},train\ns1/{train[1]},val\n")
    held_out = held_out_by(tmp_path)
    assert held_out == {train[0]: "test", train[1]: "val"}
    alike = Studio(SimulateConfig(clips=200), held_out)
    moved = [
        (a.sentence.name, b.split) for i in range(200) if (a := studio.plan(i)).split != (b := alike.plan(i)).split
    ]
    assert set(moved) == set(held_out.items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 99}, "even"),
        ({"clips": 0}, "at least 1"),
        ({"val": 0.5, "test": 0.5}, "train"),
        ({"difficulty": 3.0}, "0..2"),
    ],
)
def test_settings_that_make_no_sense(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SimulateConfig(**wrong)
