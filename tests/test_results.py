"""Names of results that never change hands, batches that go on, and what is an input."""

import itertools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_pipeline import pipeline, speech, video

from lipsound2.errors import ConfigError, LipSoundError, StorageError
from lipsound2.inference import jobs, speech_files
from lipsound2.inference.results import LONGEST, RECORDS, Results, difference, fit
from lipsound2.inference.speech import facts
from lipsound2.inference.speech_files import Options, Tools, speak_all
from lipsound2.runtime import atomic
from lipsound2.runtime.terminal import Manner, behave
from lipsound2.text.alphabet import Transcript, Word
from lipsound2.text.subtitles import to_json

__all__ = ["pipeline", "speech", "video"]


@pytest.fixture
def films(tmp_path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    return folder


def film(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or str(path))
    return path


def names(inputs: list[Path], out: Path) -> dict[str, str]:
    found = jobs.find_jobs(inputs, Results(out))
    assert not found.refused
    return {str(job.video): job.name for job in found.jobs}


def test_names_never_shift(films, tmp_path):
    out = tmp_path / "out"
    first, second = film(films / "a.mov"), film(films / "a.mp4")
    assert names([films], out) == {str(first): "a", str(second): "a.mp4"}
    earlier, other = film(films / "a.avi"), film(tmp_path / "other" / "a.mp4")
    after = names([tmp_path / "other", films], out)
    assert after[str(first)] == "a"
    assert after[str(second)] == "a.mp4"
    assert after[str(earlier)] == "a.avi"
    assert after[str(other)].startswith("a.mp4-")
    assert names([films], out)[str(earlier)] == "a.avi", "the same whatever else is named"


def test_names_that_some_file_systems_take_for_one(films, tmp_path):
    one, two, three = (film(films / name) for name in ("A.mp4", "a.mov", "cafe\u0301.mp4"))
    four = film(films / "caf\u00e9.mov")
    found = names([films], tmp_path / "out")
    assert found == {str(one): "A", str(two): "a.mov", str(three): "cafe\u0301", str(four): "caf\u00e9.mov"}


def test_the_same_file_is_done_once(films, tmp_path):
    path = film(films / "a.mp4")
    (films / "link.mp4").symlink_to(path)
    (films / "loop").symlink_to(films, target_is_directory=True)
    inputs = [films, path, films / "." / "a.mp4", films / "link.mp4"]
    assert names(inputs, tmp_path / "out") == {str(path): "a"}


def test_a_video_that_was_moved_keeps_its_results(films, tmp_path):
    results = Results(tmp_path / "out")
    path = film(films / "a.mp4", "content")
    (job,) = jobs.find_jobs([path], results).jobs
    (tmp_path / "out" / "a.wav").touch()
    results.finish(job.name, Options(formats=("wav",)).wanted(speech_files.digest(path)))
    moved = path.rename(film(tmp_path / "elsewhere" / "a.mp4"))
    assert names([moved], tmp_path / "out") == {str(moved): "a"}


def test_results_are_no_inputs(films, tmp_path):
    path = film(films / "deep" / "a.mp4")
    for out in (films / "out", films / "other"):
        results = Results(out)
        (job,) = jobs.find_jobs([films], results).jobs
        assert job.video == path
        film(out / f"{job.name}.mp4")
        results.finish(job.name, {".mp4": {}})
    assert "no video" in jobs.find_jobs([films / "out" / "deep"], Results(tmp_path / "x")).refused[0][1].message
    assert names([films], films) == {str(path): "deep/a"}, "beside the videos themselves"


def test_inputs_that_are_none(films, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    locked = film(films / "locked" / "a.mp4").parent
    scan = os.scandir

    def refuse(folder):
        if folder == locked:
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    good = film(films / "good.mp4")
    bad = ["http://a.b/c.mp4", "rtsp://a/b", "file:///a.mp4", "-", "none.mp4", empty, tmp_path / "pipe.mp4"]
    found = jobs.find_jobs([*map(Path, bad), films], Results(tmp_path / "out"))
    assert [job.video for job in found.jobs] == [good]
    said = [error.message for _, error in found.refused]
    expected = [
        "is a URL",
        "is a URL",
        "is a URL",
        "pipes cannot",
        "no such file",
        "no video",
        "a pipe or",
        "may not be",
    ]
    assert len(said) == len(expected)
    assert all(part in message for part, message in zip(expected, said, strict=True)), said


@pytest.mark.parametrize("name", ["12:30.mp4", "x [abc].mp4", "-x.mp4", "a b\n.mp4", "é" * 123 + "x.mp4", "con .mp4"])
def test_any_name_has_results(name, tmp_path):
    path = film(tmp_path / "in" / name)
    (found,) = names([path], tmp_path / "out").values()
    assert len(os.fsencode(f"{found}-face9.json")) <= LONGEST
    Results(tmp_path / "out").path(found, ".json").touch()


def test_a_name_of_bytes(tmp_path):
    path = film(tmp_path / "in" / os.fsdecode(b"caf\xe9.mp4"), "film")
    (found,) = names([path], tmp_path / "out").values()
    assert os.fsencode(found) == b"caf\xe9"
    said = to_json(Transcript(), {"source": str(path)})
    assert os.fsencode(json.loads(said)["source"]) == os.fsencode(path)
    assert said.encode()


def test_names_are_shortened_only_where_they_must_be():
    assert fit("x" * 244) == "x" * 244
    long, other = fit("x" * 245), fit("x" * 246)
    assert len(long) == 244
    assert long != other


def test_an_output_that_is_a_file(tmp_path):
    one, formats = [Path("a.mp4")], ("wav", "mp4", "json")
    assert jobs.read_output(tmp_path / "out.new", one, formats) == jobs.Place(tmp_path / "out.new")
    assert jobs.read_output(tmp_path / "x.wav", one, formats) == jobs.Place(tmp_path, "x", "wav")
    (tmp_path / "y.wav").mkdir()
    assert jobs.read_output(tmp_path / "y.wav", one, formats).name is None
    for output, inputs, asked, message in (
        ("x.wav", [Path("a.mp4"), Path("b.mp4")], None, "is one file"),
        ("x.wav", [tmp_path], None, "is one file"),
        ("x.mp3", one, None, "nothing is written as mp3"),
        ("x.wav", one, "mp4", "is no file of the formats mp4"),
    ):
        with pytest.raises(ConfigError, match=message):
            jobs.read_output(tmp_path / output, inputs, formats, asked)


class Batch:
    """A pipeline that speaks at once, and what became of a batch."""

    def __init__(self, speech, out: Path) -> None:
        self.speech = speech
        self.out = out
        self.spoken: list[Path] = []

    def speak_each(self, source: Path, face: str, report, excerpt, heard):
        self.spoken.append(source)
        if "bad" in source.name:
            raise LipSoundError(f"{source} is bad")
        report("speaking", 0.5)
        for _ in range(2 if face == "all" else 1):
            yield self.speech

    def run(self, inputs: list[Path], **options) -> tuple[int, int, int, int]:
        self.spoken = []
        results = Results(self.out)
        found = jobs.find_jobs(inputs, results)
        tally = speak_all(found, results, Options(**options), lambda: Tools(self))
        return tally.done, tally.skipped, tally.failed, tally.status

    def files(self) -> set[str]:
        return {path.name for path in self.out.iterdir() if path.is_file()}


@pytest.fixture
def batch(speech, tmp_path) -> Batch:
    return Batch(speech, tmp_path / "out")


def test_a_batch_goes_on(batch, films, capsys):
    for name in ("a.mp4", "bad.mp4", "c.mp4"):
        film(films / name)
    assert batch.run([films], formats=("wav",)) == (2, 0, 1, 1)
    assert "2 of 3 done, 1 failed" in capsys.readouterr().err
    assert batch.run([films], formats=("wav",)) == (0, 2, 1, 1)
    out, err = capsys.readouterr()
    assert "2 of 3 already done" in err
    assert "0 of 3 done, 2 skipped (already there), 1 failed" in err
    assert out == ""
    (batch.out / "c.wav").unlink()
    assert batch.run([films / "a.mp4", films / "c.mp4"], formats=("wav",)) == (1, 1, 0, 0)
    assert batch.spoken == [films / "c.mp4"]
    assert batch.run([films / "a.mp4"], formats=("wav", "png")) == (1, 0, 0, 0)
    out = capsys.readouterr().out
    assert [Path(line).name for line in out.splitlines()] == ["c.wav", "a.png"], "only what is missing"
    assert batch.run([films / "bad.mp4"], formats=("wav",)) == (0, 0, 1, 2)
    assert batch.run([films], formats=("wav",), force=True)[0] == 2


def test_only_our_own_results_are_taken_as_done(batch, films, capsys):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        film(films / name)
    batch.out.mkdir()
    (batch.out / "a.wav").write_text("mine")
    assert batch.run([films], formats=("wav",)) == (2, 0, 1, 1)
    assert "a.wav exists and was not made here" in capsys.readouterr().err
    assert (batch.out / "a.wav").read_text() == "mine"
    film(films / "b.mp4", "changed")
    assert batch.run([films / "b.mp4", films / "c.mp4"], formats=("wav",), face="left") == (0, 0, 2, 2)
    err = capsys.readouterr().err
    assert "b.wav was made before its video was changed" in err
    assert "c.wav was made with face largest, not left" in err
    assert "hint: make it anew with --force" in err
    assert batch.run([films], formats=("wav",), face="left", force=True) == (3, 0, 0, 0)
    assert batch.run([films], formats=("wav",), face="left") == (0, 3, 0, 0)


def test_every_face_has_files_of_its_own(batch, films, capsys):
    film(films / "a.mp4")
    assert batch.run([films], formats=("wav",), face="all") == (1, 0, 0, 0)
    assert batch.files() == {"a-face1.wav", "a-face2.wav"}
    assert batch.run([films], formats=("wav",), face="all") == (0, 1, 0, 0)
    (batch.out / "a-face2.wav").unlink()
    capsys.readouterr()
    assert batch.run([films], formats=("wav",), face="all") == (1, 0, 0, 0)
    assert capsys.readouterr().out == f"{batch.out / 'a-face2.wav'}\n"


def test_a_video_is_never_overwritten(batch, films):
    path = film(films / "a.mp4")
    batch.out = films
    assert batch.run([films], formats=("mp4",), force=True) == (0, 0, 1, 2)
    assert path.read_text() == str(path)


def test_json_is_one_object_a_video(batch, films, capsys):
    film(films / "a.mp4")
    film(films / "bad.mp4")
    behave(Manner(quiet=True, json=True))
    try:
        batch.run([films, Path("http://x.y/z.mp4")], formats=("wav",))
        batch.run([films / "a.mp4"], formats=("wav",))
    finally:
        behave(Manner())
    out, err = capsys.readouterr()
    url, good, bad, again = (json.loads(line) for line in out.splitlines())
    assert url["status"] == bad["status"] == "failed"
    assert bad["error"].endswith("bad.mp4 is bad")
    assert url["hint"]
    assert good["outputs"] == again["outputs"] == [str(batch.out / "a.wav")]
    assert (good["status"], again["status"]) == ("done", "skipped")
    assert good["seconds"] == round(batch.speech.seconds, 3)
    assert "3 done" not in err


def test_the_file_and_the_line_tell_the_same(batch, tmp_path):
    speech = replace(
        batch.speech, transcript=Transcript((Word("bin", 0.1, 0.4, 0.5), Word("blue", 0.4, 0.6, 1.0)), "x")
    )
    speech.save(tmp_path, "a", ("json",))
    told = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert told.pop("segments")[0]["words"][0]["word"] == "bin"
    assert told == facts(speech)
    assert told["confidence"] == 0.75


def test_a_batch_that_is_killed_ends_as_if_it_was_not(batch, video, films, tmp_path, monkeypatch):
    for name in ("a.mp4", "a.mov"):
        shutil.copy(video, films / name)
    batch.out = tmp_path / "whole"
    options = {"formats": ("wav", "mp4")}
    batch.run([films], **options)
    whole = content(batch.out)
    assert len(whole) == 6
    # What is left by a process that was killed is swept; here it would be that of this process, which lives.
    monkeypatch.setattr(atomic, "_lives", lambda process: False)
    moments = 0
    for moment in range(50):
        batch.out = tmp_path / f"out{moment:02d}"
        if not killed(lambda: batch.run([films], **options), moment):
            break
        moments += 1
        batch.run([films], **options)
        assert content(batch.out) == whole, moment
    assert moments == 10, "two claims, and for each video two records and two files"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class KilledError(BaseException):
    """What nothing catches."""


def killed(work, moment: int) -> bool:
    """Do work that ends before it puts a file, counted from 0, in its place, and leaves all as it is then."""
    put, done = Path.replace, itertools.count()

    def strike(path: Path, target: Path) -> Path:
        if next(done) == moment:
            patch.setattr(atomic, "_remove", lambda path: None)
            raise KilledError
        return put(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", strike)
        try:
            work()
        except KilledError:
            return True
    return False


def test_a_damaged_record_is_said(films, tmp_path):
    path = film(films / "a.mp4")
    names([path], tmp_path / "out")
    (record,) = (tmp_path / "out" / RECORDS).iterdir()
    record.write_text("{")
    (refused,) = jobs.find_jobs([path], Results(tmp_path / "out")).refused
    assert isinstance(refused[1], StorageError)
    assert "is damaged" in refused[1].message


def test_what_is_no_file_in_a_folder_is_an_error_and_the_rest_is_done(batch, video, films):
    shutil.copy(video, films / "a.mp4")
    (films / "nowhere.mp4").symlink_to(films / "gone.mp4")
    (films / "loop.mp4").symlink_to(films / "loop.mp4")
    os.mkfifo(films / "pipe.mp4")
    assert batch.run([films], formats=("wav",)) == (1, 0, 3, 1)


def test_text_that_was_not_asked_for_before_is_named():
    assert difference({"face": "left"}, {"face": "left", "recognizer": "jasper"}) == "without text"
    assert difference({"face": "left"}, {"face": "right"}) == "with face left, not right"
