import numpy as np
import pytest

from lipsound2.simulate.performance import Habits, perform
from lipsound2.simulate.visemes import CONSONANTS, DIPHTHONGS, ORGANS, VOWELS, articulate
from lipsound2.simulate.voice import SAMPLE_RATE, Timed, Utterance


def spoken(*labels: str, each: float = 0.08, start: float = 0.4) -> list[Timed]:
    edges = start + each * np.arange(len(labels) + 1)
    return [Timed(label, float(a), float(b)) for label, a, b in zip(labels, edges[:-1], edges[1:], strict=True)]


def course(phones: list[Timed], organ: str, times: np.ndarray | None = None) -> np.ndarray:
    times = np.arange(0, phones[-1].end + 0.4, 0.005) if times is None else times
    return articulate(phones, times, phones[-1].end + 0.4)[:, ORGANS.index(organ)]


def at(phones: list[Timed], organ: str, index: int) -> float:
    middle = (phones[index].start + phones[index].end) / 2
    return float(course(phones, organ, np.array([middle]))[0])


@pytest.mark.parametrize(
    ("label", "organ"),
    [("p", "close"), ("b", "close"), ("m", "close"), ("f", "tuck"), ("v", "tuck"), ("θ", "between"), ("ð", "between")],
)
@pytest.mark.parametrize("offset", [0.0, 0.01, 0.02, 0.03])
def test_contacts_are_seen_in_a_frame_however_short_they_are(label, organ, offset):
    phones = [Timed("ɑ", 0.2, 0.5), Timed(label, 0.5, 0.535), Timed("ɑ", 0.535, 0.8)]
    frames = offset + np.arange(0, 1, 0.04)
    contact = course(phones, organ, frames)
    assert contact.max() > 0.99
    assert abs(frames[contact.argmax()] - 0.5) < 0.05
    assert at(phones, organ, 0) < 0.05
    assert at(phones, organ, 2) < 0.05


def test_lips_stay_on_each_other_before_an_initial_b():
    phones = spoken("b", "ɪ", "n")
    assert course(phones, "close", np.arange(0.2, 0.46, 0.005)).min() > 0.85


def test_lips_rest_closed_before_and_after_speech():
    closed = course(spoken("s", "ɛ", "t"), "close")
    assert closed[0] > 0.85
    assert closed[-1] > 0.85
    assert closed.min() < 0.01


def test_lips_round_before_a_rounded_vowel_begins():
    two, tea = spoken("t", "u"), spoken("t", "i")
    assert at(two, "pucker", 0) > 0.2
    assert at(tea, "pucker", 0) < 0.01
    assert at(two, "wide", 0) < at(tea, "wide", 0)


def test_rounding_carries_over():
    assert at(spoken("u", "s"), "pucker", 1) > at(spoken("i", "s"), "pucker", 1) + 0.03


def test_a_short_vowel_is_not_reached():
    assert at(spoken("t", "ɑ", "t", each=0.05), "jaw", 1) < 0.85 * at(spoken("t", "ɑ", "t", each=0.25), "jaw", 1)


def test_stress_opens_the_jaw():
    plain = spoken("t", "ɑ", "t", each=0.15)
    stressed = [phone._replace(stressed=phone.label == "ɑ") for phone in plain]
    assert at(stressed, "jaw", 1) > at(plain, "jaw", 1) + 0.1


def test_vowels_keep_their_order():
    jaw = {vowel: at(spoken("h", vowel, "h", each=0.2), "jaw", 1) for vowel in ("ɑ", "ɛ", "i", "u")}
    assert jaw["ɑ"] > jaw["ɛ"] > jaw["i"] > jaw["u"]


def test_a_diphthong_moves():
    phones = spoken("h", "aʊ", "h", each=0.3)
    start, end = course(phones, "pucker", np.array([phones[1].start + 0.05, phones[1].end - 0.05]))
    assert start < 0.25
    assert end > 0.5


@pytest.mark.parametrize("label", [*VOWELS, *DIPHTHONGS, *CONSONANTS])
def test_every_phone_stays_in_range(label):
    organs = articulate(spoken("t", label, "ə"), np.arange(0, 1, 0.01), 1.0)
    assert np.isfinite(organs).all()
    assert organs.min() >= 0
    assert organs.max() <= 1.01


def test_a_performance_depends_on_its_seed_alone():
    phones = spoken("b", "ɪ", "n")
    utterance = Utterance(np.zeros(SAMPLE_RATE, np.float32), [Timed("bin", phones[0].start, phones[-1].end)], phones)
    once, again, other = (perform(utterance, Habits(), 25, 25, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert once == again
    assert once != other
    assert once[10].articulation.close == pytest.approx(1, abs=0.02)
