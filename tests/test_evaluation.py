import base64
import csv
import io
import json
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
from lipsound2.corpora.protocols import PROTOCOLS, Protocol, find_protocol
from lipsound2.data.shards import Entry, read_index
from lipsound2.errors import ConfigError, DataError, LipSoundError, StorageError
from lipsound2.evaluation import evaluate as module
from lipsound2.evaluation.bench import Bench, Settings
from lipsound2.evaluation.compare import compare, markdown, titles
from lipsound2.evaluation.evaluate import evaluate
from lipsound2.evaluation.material import Source
from lipsound2.evaluation.selection import select
from lipsound2.evaluation.summary import read_summary
from lipsound2.packs import find_pack
from lipsound2.packs.history import History
from lipsound2.runtime.executors import Outcome, attempt
from lipsound2.runtime.weights import save_weights

__all__ = ["run"]

SECOND = 16_000
FEW = ("stoi", "mcd", "length_ratio", "lag_ms")


class Box:
    """A face detector that always finds the same face."""

    def detect(self, image: np.ndarray) -> list[faces.Face]:
        height, width = image.shape[:2]
        return [faces.Face(np.array([0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height]), 1.0)]


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


def test_a_measure_that_fails_costs_only_its_clip(report, tmp_path, monkeypatch):
    _, settings = report
    real = Bench._measure

    def failing(self, result, index, item):
        if index == 1:
            raise ZeroDivisionError("division by zero")
        real(self, result, index, item)

    monkeypatch.setattr(Bench, "_measure", failing)
    settings = replace(settings, recognizers=(), metrics=("length_ratio",))
    summary = evaluate(settings, tmp_path / "report", workers=1)
    assert (summary.clips, summary.failed) == (3, 1)
    assert "division by zero" in (tmp_path / "report" / "missing.csv").read_text()


def test_a_clip_that_ends_its_process_costs_only_itself(report, tmp_path, monkeypatch):
    class Deadly:
        def run(self, worker, items):
            work = worker()
            for item in items:
                died = LipSoundError("the worker process died on it") if item.number == 1 else attempt(work, item)
                yield Outcome(item, died)

    monkeypatch.setattr(module, "choose", lambda workers: Deadly())
    settings = replace(report[1], recognizers=(), metrics=("length_ratio",))
    summary = evaluate(settings, tmp_path / "report")
    assert (summary.clips, summary.failed) == (3, 1)
    assert "the worker process died on it" in (tmp_path / "report" / "missing.csv").read_text()


def test_what_is_else_in_a_report_is_named(report, tmp_path):
    _, settings = report
    few = replace(settings, recognizers=(), metrics=("length_ratio",))
    fewer = replace(few, source=replace(few.source, limit=1))
    found = find_pack(few.pack)
    job, _ = module._plan(fewer, found, select(fewer.source, found.history), tmp_path, faces.MtcnnDetector)
    module._begin(tmp_path, module._fingerprint(job, found), False)
    with pytest.raises(StorageError, match=r"begun with other settings: .*other clips"):
        evaluate(few, tmp_path, workers=1)


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
    assert reasons["silent"] == "the reference audio is silent"
    assert reasons["short"] == "shorter than the 0.4 s that STOI looks at at once"
    assert reasons["broken"].startswith("no generated audio: ")
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
            select(Source(prepared, split="train", speakers=(speaker,), protocol="mine"), History())


def train_entries(folder: Path) -> list[Entry]:
    return [entry for entry in read_index(folder) if entry.meta["split"] == "train"]


def test_an_unknown_metric_is_an_error(report, tmp_path):
    with pytest.raises(ConfigError, match="no metric 'mos'"):
        evaluate(replace(report[1], metrics=("mos",)), tmp_path / "out")


def test_no_clips_is_an_error(prepared):
    with pytest.raises(DataError, match="no clip of split 'test' of nobody"):
        select(Source(prepared, speakers=("nobody",)), History())
