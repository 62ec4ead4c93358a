import base64
import csv
import io
import json
import math
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from makers import flash_and_click
from test_model import make, tiny
from test_packs import run

from lipsound2 import faces, media
from lipsound2.config import to_json
from lipsound2.corpora import Clip
from lipsound2.corpora.folder import find_videos
from lipsound2.data.shards import Entry, read_index
from lipsound2.errors import ConfigError, DataError, StorageError
from lipsound2.evaluation import words
from lipsound2.evaluation.bench import Bench, Settings
from lipsound2.evaluation.compare import compare, markdown, titles
from lipsound2.evaluation.evaluate import evaluate
from lipsound2.evaluation.material import Source, open_material
from lipsound2.evaluation.metrics import METERS, UnmeasurableError
from lipsound2.evaluation.protocols import PROTOCOLS, Protocol, find_protocol
from lipsound2.evaluation.score import score
from lipsound2.evaluation.sound import Sound, find_lag
from lipsound2.evaluation.sphinx import SphinxRecognizer
from lipsound2.evaluation.statistics import estimate
from lipsound2.evaluation.summary import PACK, ClipResult, read_summary, summarize
from lipsound2.recognizer.recognizer import Recognizer
from lipsound2.text import Transcript, Word
from lipsound2.weights import save_weights

__all__ = ["run"]

SECOND = 16_000
METER = {metric.name: meter for meter in METERS for metric in meter.metrics}
FEW = ("stoi", "mcd", "length_ratio", "lag_ms")
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


class Box:
    """A face detector that always finds the same face."""

    def detect(self, image: np.ndarray) -> list[faces.Face]:
        height, width = image.shape[:2]
        return [faces.Face(np.array([0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height]), 1.0)]


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
    assert score(silent, voice, few).missing["stoi"] == "the true sound is silent"
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


@pytest.fixture(scope="module")
def report(prepared, tmp_path_factory) -> tuple[Path, Settings]:
    """A report on three prepared clips."""
    folder = tmp_path_factory.mktemp("evaluated")
    best = folder / "run" / "best"
    best.mkdir(parents=True)
    (best / "config.json").write_text(to_json(tiny()))
    save_weights(best / "model.safetensors", make(tiny()).state_dict())
    source = Source(prepared, split="all", limit=3)
    settings = Settings(str(folder / "run"), source, None, ("pocketsphinx:grid",), FEW, "cpu")
    evaluate(settings, folder / "report", workers=1)
    return folder / "report", settings


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "clips.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_has_reference_rows_and_all_figures(report):
    folder, _ = report
    summary = read_summary(folder)
    assert list(summary.titles) == ["pack", "ceiling-griffin-lim", "floor", "true"]
    assert summary.clips == 3
    assert summary.failed == 0
    for figures in summary.figures.values():
        assert {*FEW, "estoi", "estoi_lag", "wer_pocketsphinx-grid", "cer_pocketsphinx-grid"} <= figures.keys()
        assert "dnsmos_ovrl" not in figures
        assert all(figure.count + sum(figure.missing.values()) == 3 for figure in figures.values())
    stoi = {row: figures["stoi"].mean for row, figures in summary.figures.items()}
    assert stoi["true"] > stoi["ceiling-griffin-lim"] > 0.8 > stoi["pack"]
    assert summary.figures["floor"]["estoi"].mean < 0.1
    assert {row["row"] for row in rows_of(folder)} == set(summary.titles)
    assert summary.versions["pystoi"]
    assert "| STOI |" in (folder / "summary.md").read_text()
    assert len(list((folder / "sounds").rglob("*.flac"))) == 12
    assert not (folder / ".staging").exists()


def test_stopped_and_gone_on_with_in_several_processes_it_gives_the_same_files(report, tmp_path, monkeypatch):
    folder, settings = report
    again = tmp_path / "again"
    original = Bench.work

    def stop(self, index):
        if index == 1:
            raise KeyboardInterrupt
        original(self, index)

    monkeypatch.setattr(Bench, "work", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(settings, again, workers=1)
    done = []
    evaluate(settings, again, workers=2, progress=lambda count, total: done.append((count, total)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 5 + 12
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for file in files:
        assert (again / file).read_bytes() == (folder / file).read_bytes(), file


def test_another_report_is_not_overwritten(report):
    folder, settings = report
    with pytest.raises(StorageError, match="holds another report"):
        evaluate(settings, folder)


def test_a_report_compared_with_itself_and_with_a_worse_one(report, tmp_path):
    folder, _ = report
    assert all(found.change == (0, 0, 0) and not found.verdict for found in compare(folder, folder))
    worse = tmp_path / "worse"
    shutil.copytree(folder, worse)
    lines = rows_of(folder)
    for line in lines:
        line["mcd"] = repr(float(line["mcd"]) + 1)
        line["estoi"] = "" if line is lines[0] else line["estoi"]
    with (worse / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    found = {difference.metric.name: difference for difference in compare(folder, worse)}
    assert found["mcd"].change == pytest.approx((1, 1, 1))
    assert found["mcd"].verdict == "A"
    assert (found["estoi"].clips, found["estoi"].left_out) == (2, 1)
    text = markdown(list(found.values()), titles(folder, worse))
    assert "| MCD [dB] |" in text
    assert "+1.00 (+1.00 to +1.00)" in text
    with pytest.raises(DataError, match="no row 'roof'"):
        compare(folder, folder, "roof")


def test_reports_of_different_clips_are_not_compared(report, tmp_path):
    folder, _ = report
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for name in ("clips.csv", "missing.csv"):
        (other / name).write_text((other / name).read_text().replace("sim01/", "sim09/"))
    with pytest.raises(DataError, match="different clips"):
        compare(folder, other)


class Links(HTMLParser):
    """Collects what a page refers to, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_needs_nothing_else(report):
    folder, _ = report
    page = (folder / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert links.addresses
    assert all(address.startswith("data:") for address in links.addresses)
    assert "url(" not in page
    assert "@import" not in page
    # Best, median and worst: true, made and ceiling to hear, and the mels to see.
    assert links.tags.count("audio") == 9
    assert links.tags.count("section") == 3
    sound = next(address for address in links.addresses if address.startswith("data:audio/flac"))
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(sound.split(",")[1])))
    assert rate == 16_000
    assert len(wave) > 16_000


def test_silent_broken_and_short_clips_are_all_counted(run, clips, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(find_videos(clips)[0], folder / "good.mp4")
    media.write_video(folder / "good.mp4", np.zeros(2 * SECOND, np.float32), SECOND, folder / "silent.mp4")
    flash_and_click(folder / "short.mp4", "libx264", "aac", seconds=0.32, flash=0.16, size=(96, 96))
    (folder / "broken.mp4").write_bytes(find_videos(clips)[0].read_bytes()[:2000])
    settings = Settings(str(run), Source(folder, split="all"), None, (), FEW, "cpu")
    summary = evaluate(settings, tmp_path / "report", workers=1, detector=Box)
    assert summary.clips == 4
    assert summary.failed == 1
    stoi = summary.figures["pack"]["stoi"]
    assert stoi.count == 1
    assert sum(stoi.missing.values()) == 3
    reasons = {
        row["clip"]: row["reason"]
        for row in csv.DictReader((tmp_path / "report" / "missing.csv").read_text().splitlines())
        if (row["row"], row["metric"]) == ("pack", "stoi")
    }
    assert reasons["silent"] == "the true sound is silent"
    assert reasons["short"] == "shorter than the 0.4 s that STOI looks at at once"
    assert reasons["broken"].startswith("nothing was spoken: ")
    text = (tmp_path / "report" / "summary.md").read_text()
    assert all(reason in text for reason in reasons.values())
    assert "1 of 4" in text
    assert json.loads((tmp_path / "report" / "summary.json").read_text())["failed"] == 1


def test_protocols_choose_speakers_and_splits():
    unseen = find_protocol("grid-unseen")
    assert unseen.split("s2/bbaf2n", "s2", "train") == "test"
    assert unseen.split("s1/bbaf2n", "s1", "test") != "test"
    four = find_protocol("grid-4-speakers")
    clips = [Clip(f"{who}/bbaf2n", Path("x.mpg"), who, "val") for who in ("s1", "s3", "s29")]
    assert [(clip.speaker, clip.split) for clip in four.assign(iter(clips))] == [("s1", "val"), ("s29", "val")]
    overlapped = find_protocol("grid-overlapped")
    splits = [overlapped.split(f"s1/{number}", "s1", "train") for number in range(4000)]
    assert splits.count("test") / 4000 == pytest.approx(0.255, abs=0.02)
    with pytest.raises(ConfigError, match="no protocol 'grid'"):
        find_protocol("grid")


def test_published_figures_name_their_source():
    assert {other.source for protocol in PROTOCOLS.values() for other in protocol.published} == {"own", "quoted"}


def test_clips_prepared_otherwise_than_the_protocol_are_refused(prepared):
    speaker = str(train_entries(prepared)[0].meta["speaker"])
    with pytest.MonkeyPatch.context() as patch:
        unseen = Protocol("all unseen", "folder", (speaker,), unseen=True)
        patch.setitem(PROTOCOLS, "mine", unseen)
        with pytest.raises(DataError, match="the protocol mine makes it test"):
            open_material(Source(prepared, split="train", speakers=(speaker,), protocol="mine"))


def train_entries(folder: Path) -> list[Entry]:
    return [entry for entry in read_index(folder) if entry.meta["split"] == "train"]


def test_an_unknown_metric_is_an_error(report, tmp_path):
    with pytest.raises(ConfigError, match="no metric 'mos'"):
        evaluate(replace(report[1], metrics=("mos",)), tmp_path / "out")


def test_no_clips_is_an_error(prepared):
    with pytest.raises(DataError, match="no clip of split 'test' of nobody"):
        open_material(Source(prepared, speakers=("nobody",)))


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
