import math

import numpy as np
import pytest

from lipsound2 import media
from lipsound2.corpora.folder import find_videos
from lipsound2.errors import ConfigError
from lipsound2.evaluation import words
from lipsound2.evaluation.metrics import METERS, UnmeasurableError
from lipsound2.evaluation.score import score
from lipsound2.evaluation.sound import Sound, find_lag
from lipsound2.evaluation.statistics import estimate
from lipsound2.evaluation.summary import PACK, ClipResult, summarize
from lipsound2.recognizer.base import Recognizer
from lipsound2.recognizer.sphinx import SphinxRecognizer
from lipsound2.text.alphabet import Transcript, Word

SECOND = 16_000
METER = {metric.name: meter for meter in METERS for metric in meter.metrics}
NAMES = [metric.name for meter in METERS for metric in meter.all_metrics()]


@pytest.fixture(scope="module")
def voice(clips) -> Sound:
    """A simulated speaker's sound."""
    wave = media.read_audio(find_videos(clips)[0], SECOND)
    assert wave is not None
    return Sound(wave[: 2 * SECOND])


@pytest.fixture(scope="module")
def other(clips) -> Sound:
    wave = media.read_audio(find_videos(clips)[-1], SECOND)
    assert wave is not None
    return Sound(wave[: 2 * SECOND])


def noise(seconds: float, seed: int = 0) -> Sound:
    return Sound((0.1 * np.random.default_rng(seed).standard_normal(int(seconds * SECOND))).astype(np.float32))


def test_a_sound_is_perfectly_like_itself(voice):
    scores = score(voice, voice)
    assert scores.missing == {}
    assert list(scores.figures) != []
    assert set(scores.figures) == set(NAMES)
    for name in ("stoi", "estoi", "speaker_similarity", "length_ratio"):
        assert scores.figures[name] == pytest.approx(1, abs=1e-5)
    for name in ("mcd", "mel_l1", "spectral_convergence", "f0_rmse", "voicing_error", "lag_ms"):
        assert scores.figures[name] == 0
    assert scores.figures["pesq_wb_16k"] == pytest.approx(4.644, abs=1e-3)
    assert scores.figures["pesq_nb_16k"] == pytest.approx(4.549, abs=1e-3)
    assert scores.figures["pesq_nb_8k"] == pytest.approx(4.549, abs=1e-3)


def test_known_values():
    true = noise(1.0)
    louder = Sound(true.wave * 2)
    found = score(true, louder, [METER["mcd"]]).figures
    # Twice as loud: every log-mel bin is log 2 higher, its cepstrum without c0 the same.
    assert found["mel_l1"] == pytest.approx(math.log(2), abs=1e-4)
    assert found["mcd"] == pytest.approx(0, abs=1e-3)
    assert found["spectral_convergence"] == pytest.approx(1, abs=1e-4)
    half = Sound(true.wave[: SECOND // 2])
    assert score(true, half, [METER["length_ratio"]]).figures == {"length_ratio": 0.5}


def test_pitch_of_a_tone_is_known():
    time = np.arange(SECOND) / SECOND
    low, high = (
        Sound(sum(0.1 * np.sin(2 * np.pi * f * k * time) for k in range(1, 6)).astype(np.float32)) for f in (150, 160)
    )
    found = score(low, high, [METER["f0_rmse"]]).figures
    assert found["f0_rmse"] == pytest.approx(10, abs=1)
    assert found["voicing_error"] < 10


def test_a_faint_hum_is_not_voiced():
    time = np.arange(SECOND) / SECOND
    tone = sum(0.1 * np.sin(2 * np.pi * 150 * k * time) for k in range(1, 6))
    voiced = Sound((tone * np.where(time < 0.5, 1, 0.01)).astype(np.float32)).pitch.voiced
    assert voiced[5:20].all()
    assert not voiced[32:].any()


def test_a_lag_is_found_and_taken_out_beside_the_raw_score(voice):
    late = voice.earlier(-40 * 16)
    assert len(late.wave) == len(voice.wave)
    assert find_lag(voice, late) == 40 * 16
    found = score(voice, late, [METER["stoi"], METER["lag_ms"]]).figures
    assert found["lag_ms"] == 40
    assert found["stoi"] < 0.8
    assert found["stoi_lag"] > 0.99
    assert find_lag(voice, voice.earlier(40 * 16)) == -40 * 16


def test_another_voice_is_less_like_the_speaker(voice, other):
    found = score(voice, other, [METER["speaker_similarity"]]).figures
    assert found["speaker_similarity"] < 0.9


def test_whatever_cannot_be_measured_says_why(voice):
    silent = Sound(np.zeros(SECOND, np.float32))
    quick = [meter for meter in METERS if meter is not METER["dnsmos_ovrl"]]
    names = {metric.name for meter in quick for metric in meter.all_metrics()}
    for true, made in (
        (voice, silent),
        (silent, voice),
        (noise(0.05), noise(0.05)),
        ("no sound", silent),
        (voice, "broken"),
    ):
        scores = score(true, made, quick)
        assert set(scores.figures) | set(scores.missing) == names
        assert set(scores.figures) & set(scores.missing) == set()
        assert all(scores.missing.values())
        assert "pesq_wb_16k" in scores.missing
    few = [METER["stoi"], METER["dnsmos_ovrl"]]
    assert score(silent, voice, few).missing["stoi"] == "the reference audio is silent"
    assert score(silent, voice, few).figures["dnsmos_ovrl"] > 1
    assert score(voice, "broken", few).figures == {}
    assert score(noise(0.3), noise(0.3), few).missing["stoi"] == "shorter than the 0.4 s that STOI looks at at once"


def test_a_package_that_is_not_there_is_a_reason(voice, monkeypatch):
    monkeypatch.setattr("lipsound2.evaluation.metrics.importlib.util.find_spec", lambda name: None)
    assert score(voice, voice, [METER["pesq_nb_8k"]]).missing["pesq_nb_8k"] == "the package pesq is not installed"


def test_intervals_hold_the_mean_and_are_drawn_alike():
    figures = list(np.random.default_rng(1).normal(5, 1, 100))
    found = estimate(figures)
    assert found == estimate(figures)
    assert found.mean == pytest.approx(np.mean(figures))
    # The normal approximation is close for 100 clips.
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(figures) / 10, rel=0.15)
    assert estimate([3.0]) == (3.0, 3.0, 3.0)
    assert estimate([0.0, 100.0], [3.0, 1.0]).mean == 25


class Parrot:
    """A recogniser that always hears the same; it fits the Protocol."""

    name = "parrot"
    sample_rate = 8000

    def transcribe(self, wave: np.ndarray) -> Transcript:
        assert len(wave) > 0
        return Transcript(tuple(Word(text, 0.0, 0.1, 1.0) for text in ("Bin", "blue,", "at", "F", "2", "now!")))


def test_transcripts_are_compared_in_one_form():
    assert words.normalize("Bin blue, at F 2 now!") == "bin blue at f two now"
    assert words.normalize("it’s 42") == "it's 42"
    assert words.normalize("你 好。") == "你好"


def test_error_rates_count_over_all_clips_together(voice):
    results = []
    for said in ("bin blue at f two now", "bin red"):
        scores = score(voice, "not measured")
        heard = words.listen(Parrot(), voice, said)
        assert heard == "bin blue at f two now"
        words.score_words(scores, "parrot", heard, said)
        results.append(ClipResult(said, "s1", 1.0, said, {PACK: scores}, {PACK: {"parrot": heard}}))
    assert [result.rows[PACK].figures["wer_parrot"] for result in results] == [0, 250]
    figures = summarize(results, {PACK: "mine"}, list(words.metrics("parrot")), {}).figures[PACK]
    # Five edits over eight words, not the mean of 0 and 250 %.
    assert figures["wer_parrot"].mean == pytest.approx(100 * 5 / 8)
    with pytest.raises(UnmeasurableError, match="no transcript"):
        words.listen(Parrot(), voice, None)


def test_pocketsphinx_hears_the_grammar_whatever_came_before(voice, other):
    judge = SphinxRecognizer("grid")
    assert isinstance(judge, Recognizer)
    first = judge.transcribe(voice.wave)
    judge.transcribe(other.wave)
    assert judge.transcribe(voice.wave) == first
    assert judge.transcribe(np.zeros(0, np.float32)).words == ()
    with pytest.raises(ConfigError, match="no grammar 'chess'"):
        SphinxRecognizer("chess")


def test_auto_takes_what_is_at_hand(tmp_path):
    assert words.find_judges(("auto",), None) == ()
    assert words.find_judges(("auto", "whisper:tiny"), tmp_path, "grid") == (
        "jasper",
        "pocketsphinx:grid",
        "whisper:tiny",
    )
