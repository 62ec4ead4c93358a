"""Films: cuts, stretches without a face, several people."""

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import srt
import webvtt
from rich.console import Console
from test_pipeline import joined, pipeline, video
from test_reading import Listener, captions

from lipsound2 import media
from lipsound2.corpora.folder import find_videos
from lipsound2.cuts import CutDetector
from lipsound2.errors import ConfigError
from lipsound2.inference import summary
from lipsound2.inference.jobs import find_jobs
from lipsound2.inference.mix import mixed, shared
from lipsound2.inference.results import Results
from lipsound2.inference.speech import doubts, remarks
from lipsound2.inference.speech_files import Options, Tools, progress, speak_all
from lipsound2.runtime import terminal
from lipsound2.runtime.terminal import Manner, behave, counting_bar
from lipsound2.text.alphabet import Transcript, Word

__all__ = ["pipeline", "video"]

SAID = Transcript((Word("bin", 0.0, 0.5, 0.9), Word("blue", 0.5, 9.0, 0.9)), language="en", doubtful=0.8)
"""Words that would run on beyond any stretch."""


@pytest.fixture(scope="module")
def film(clips, tmp_path_factory) -> Path:
    """Three shots of two people, one right after the other, and a second of grey amid them."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    videos = find_videos(clips)
    joined([videos[0], videos[-1], None, videos[0]], path)
    return path


def test_a_cut_is_what_changes_much_more_than_usual():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (32, 32, 3)).astype(np.float32)

    def cuts(*steps: float) -> list[int]:
        """Find cuts in frames that each differ so much from the one before."""
        is_cut, image, found = CutDetector(), base / 2 + 60, []
        for index, step in enumerate((0.0, *steps)):
            image = image + step * rng.choice((-1.0, 1.0), image.shape).astype(np.float32)
            found += [index] if is_cut(np.clip(image, 0, 255).astype(np.uint8)) else []
        return found

    assert cuts(*[1.0] * 9, 20.0, *[1.0] * 9) == [10], "another person before the same wall"
    assert cuts(*[1.0] * 9, 9.0) == [], "a head that turns"
    assert cuts(*[12.0] * 10, 20.0) == [], "a camera that is carried"
    assert cuts(1.0, 60.0) == [2], "another place"


@pytest.fixture(scope="module")
def two(clips, tmp_path_factory) -> Path:
    """Two people beside each other."""
    path = tmp_path_factory.mktemp("film") / "two.mp4"
    one, other = (list(media.stream_frames(find_videos(clips)[place])) for place in (0, -1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 480, 160, "yuv420p"
        for left, right in zip(one, other, strict=False):
            image = np.full((160, 480, 3), 128, np.uint8)
            for place, frame in ((0, left), (320, right)):
                picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24").reformat(160, 160, "rgb24")
                image[:, place : place + 160] = picture.to_ndarray()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def work(pipeline, path: Path, out: Path, listener: Listener, **options: object) -> tuple[int, int]:
    results = Results(out)
    tally = speak_all(find_jobs([path], results), results, Options(**options), lambda: Tools(pipeline, listener))
    return tally.done, tally.skipped


def test_nothing_that_is_read_runs_over_a_cut_or_a_gap(pipeline, film, tmp_path, capsys):
    listener = Listener(SAID)
    assert work(pipeline, film, tmp_path, listener, formats=("mp4", "srt", "vtt", "json")) == (1, 0)
    told = json.loads((tmp_path / "film.json").read_text())
    stretches = [(each["start"], each["stop"]) for each in told["stretches"]]
    assert len(stretches) == 3
    assert stretches[0][1] == stretches[1][0], "a cut"
    assert stretches[2][0] - stretches[1][1] > 0.8, "a gap"
    assert len(listener.waves) == 3, "each is read alone"
    with (tmp_path / "film.srt").open() as file:
        shown = [(cue.start.total_seconds(), cue.end.total_seconds()) for cue in srt.parse(file)]
    assert shown == [(start, stop) for start, stop in stretches]
    assert [(start / 1000, stop / 1000) for start, stop, _ in captions(tmp_path / "film.mp4")] == shown
    assert all(one[1] <= other[0] for one, other in pairwise(shown))
    vtt = (tmp_path / "film.vtt").read_text()
    assert vtt.startswith("WEBVTT reconstructed from lips by LipSound2, not a recording\nLanguage: en\n")
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert "reconstructed from lips" in container.metadata["comment"]
        for track in (*container.streams.audio, *container.streams.subtitles):
            assert track.metadata["language"] == "eng"
            assert "from lips" in track.metadata["handler_name"]
    err = capsys.readouterr().err
    assert "[00:00.000 --> " in err
    assert err.count("] bin blue") == 3
    seconds = told["seconds"]
    assert f"film.mp4: {seconds:.1f} s, 3 faces, " in err
    assert "6 words, confidence 0.90 -> mp4, srt, vtt, json" in err


def test_words_are_not_printed_with_quiet_or_json(pipeline, film, tmp_path, capsys):
    for number, manner in enumerate((Manner(quiet=True), Manner(json=True))):
        behave(manner)
        try:
            work(pipeline, film, tmp_path / str(number), Listener(SAID), formats=("txt",))
        finally:
            behave(Manner())
        out, err = capsys.readouterr()
        assert "-->" not in out + err


def test_all_faces_are_heard_in_one_video_and_named(pipeline, two, tmp_path):
    left, right = (pipeline.speak(two, face) for face in ("left", "right"))
    both = pipeline.speak(two, "together")
    np.testing.assert_allclose(both.wave, mixed([left, right]).wave, atol=1e-6)
    assert np.abs(both.wave).max() <= 1
    assert [(each.face, each.speaker) for each in both.stretches] == [(1, "Face 1"), (2, "Face 2")]
    formats = ("wav", "mp4", "png", "txt", "srt", "vtt")
    assert work(pipeline, two, tmp_path, Listener(SAID), formats=formats, face="together") == (1, 0)
    assert (tmp_path / "two.txt").read_text() == "Face 1: bin blue\nFace 2: bin blue\n"
    ((_, _, text),) = captions(tmp_path / "two.mp4")
    assert text == "Face 1: bin blue\\NFace 2: bin blue"
    assert [cue.voice for cue in webvtt.read(str(tmp_path / "two.vtt"))] == ["Face 1", "Face 2"]
    assert len(soundfile.read(tmp_path / "two.wav")[0]) == len(both.wave)
    with pytest.raises(ConfigError, match="one voice"):
        pipeline.speak(two, "all")


def test_a_cut_between_people_is_one_pass_of_speech_together(pipeline, film):
    together, largest = pipeline.speak(film, "together"), pipeline.speak(film)
    np.testing.assert_array_equal(together.wave, largest.wave)
    assert together.gaps == largest.gaps
    assert [each.speaker for each in together.stretches] == ["Face 1", "Face 2", "Face 3"]
    assert shared([[(0.0, 2.0), (5.0, 9.0)], [(1.0, 6.0)]]) == [(1.0, 2.0), (5.0, 6.0)]


def test_times_are_those_of_the_new_video_or_of_the_film_that_is_read(pipeline, film, tmp_path):
    excerpt = media.Excerpt(start=1.0, end=1.8, fps=12.5)
    for clock, out in ((False, tmp_path / "speak"), (True, tmp_path / "read")):
        options = {"formats": ("srt", "json"), "excerpt": excerpt, "files_clock": clock}
        assert work(pipeline, film, out, Listener(SAID), **options) == (1, 0)
        assert work(pipeline, film, out, Listener(SAID), **options) == (0, 1)
    spoken, read = (next(srt.parse((tmp_path / part / "film.srt").read_text())) for part in ("speak", "read"))
    assert (spoken.start.total_seconds(), spoken.end.total_seconds()) == (0.0, 1.6)
    assert (read.start.total_seconds(), read.end.total_seconds()) == (1.0, 1.8)
    told = json.loads((tmp_path / "read" / "film.json").read_text())
    assert told["excerpt"] == {"start": 1.0, "end": 1.8, "fps": 12.5}
    assert told["seconds"] == 1.6


def test_doubtful_words_are_said_to_be():
    sure, unsure = (Word("bin", 0.0, 0.5, 0.9, 0), Word("set", 2.0, 2.5, 0.6, 1))

    def lines(*words: Word) -> list[str]:
        return doubts(Transcript(words, doubtful=0.85))

    assert lines(sure) == lines() == []
    assert lines(unsure)[0].startswith("the words are doubtful, 60% certain in the mean where 85% or more is usual")
    assert "the words at 2.0-2.5 s are doubtful" in lines(sure, unsure)[0]


def test_a_table_tells_of_each_video_done_now_or_before(pipeline, video, film, tmp_path, capsys):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "b,[i].mp4").write_bytes(video.read_bytes())
    (folder / "a.mp4").write_bytes(video.read_bytes())
    (folder / "c.mp4").write_bytes(b"nothing")
    table = tmp_path / "table.csv"

    def run(listener: Listener) -> list[dict[str, str]]:
        work(pipeline, folder, tmp_path / "out", listener, formats=("txt",), table=table)
        with table.open(newline="") as file:
            return list(csv.DictReader(file))

    rows = run(Listener(SAID))
    out, err = capsys.readouterr()
    assert [Path(row["file"]).name for row in rows] == ["a.mp4", "b,[i].mp4", "c.mp4"]
    assert [row["status"] for row in rows] == ["done", "done", "failed"]
    seconds = sum(1 for _ in media.stream_frames(video)) / 25
    assert [(row["faces"], row["words"], row["confidence"], float(row["seconds"] or 0)) for row in rows] == [
        *2 * [("1", "2", "0.9", seconds)],
        ("", "", "", 0.0),
    ]
    assert "2 of 3 b,[i].mp4: " in err
    assert all(word in err for word in ("file", "confidence", "status"))
    again = run(Listener(SAID))
    assert [row["status"] for row in again] == ["already there", "already there", "failed"]
    assert [{**row, "status": ""} for row in again] == [{**row, "status": ""} for row in rows]
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize("width", [80, 60])
def test_a_bar_is_whole_on_a_narrow_terminal(monkeypatch, width):
    shown = Console(width=width, force_terminal=True, record=True, stderr=True, _environ={"TERM": "xterm"})
    monkeypatch.setattr(terminal, "console", shown)
    monkeypatch.setattr("lipsound2.inference.speech_files.console", shown)
    with counting_bar() as counted:
        counted.add_task(
            "evaluating the clips of a very long name indeed, which goes on and on", total=1234, completed=9
        )
        counted.refresh()
    with progress() as bars:
        bars.add_task("12 of 120 a film of a name that does not end.mp4", total=1.0, stage="synthesising audio")
        bars.refresh()
    text = shown.export_text()
    assert "9/1234" in text
    assert text.count("0:00:00") >= 1
    assert "synthesising audio" in text
    assert "0:0…" not in text


def test_the_line_of_a_video_counts_all_voices():
    voices = [
        {"seconds": 3.0, "faces": 2, "familiarity": 0.9, "text": "a b", "confidence": 0.9},
        {"seconds": 3.0, "faces": 2, "familiarity": 0.2, "text": "c", "confidence": 0.7},
    ]
    line = summary.line({"voices": voices, "outputs": ["a-face1.wav", "a-face2.wav"]})
    assert line == "3.0 s, 2 faces, familiarity 0.20, 3 words, confidence 0.70 -> wav"
    assert summary.told({"faces": []}) == {}


def test_what_a_viewer_should_know_lists_no_more_than_fits(pipeline, video):
    speech = pipeline.speak(video)
    gaps = [(4.0 * i, 4.0 * i + 2) for i in range(30)]
    (line,) = (line for line in remarks(replace(speech, gaps=gaps)) if "no face at" in line)
    assert line.endswith("28.0-30.0 s and 22 more; silence there")
