import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import srt
import torch
import webvtt
from data.nemo import make
from test_nemo import archive, settings, weights
from test_packs import pack, run
from test_pipeline import pipeline, video
from tones import tiny
from typer.testing import CliRunner

from lipsound2 import media
from lipsound2.cli import app
from lipsound2.errors import ConfigError, LipSoundError
from lipsound2.inference.jobs import SOUND_SUFFIXES, Found, find_jobs
from lipsound2.inference.recognizers import choose
from lipsound2.inference.results import Results
from lipsound2.inference.speech_files import Options, Tools, speak_all
from lipsound2.inference.text_files import SoundOptions, read_sound
from lipsound2.packs import PackInfo, find_pack, write_pack
from lipsound2.recognizer.beam import BeamConfig
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.ngram import train_ngram, write_arpa
from lipsound2.recognizer.transcriber import LANGUAGE_NAME, save_recognizer
from lipsound2.text.alphabet import Transcript, Word

__all__ = ["pack", "pipeline", "run", "video"]

SAID = Transcript((Word("bin", 0.3, 0.6, 0.9), Word("blüe", 0.6, 1.0, 0.8), Word("now", 2.05, 2.1, 0.7)))


class Listener:
    """A recogniser that always hears the same."""

    name, sample_rate = "listener", 8_000

    def __init__(self, heard: Transcript = SAID) -> None:
        self.heard = heard
        self.waves: list[np.ndarray] = []

    def transcribe(self, wave: np.ndarray) -> Transcript:
        self.waves.append(wave)
        return self.heard


def speak(pipeline, video, folder, formats, listener) -> int:
    """Speak and read a video as `a b`; the exit status."""
    results = Results(folder)
    found = find_jobs([video], results, name="a b")
    return speak_all(found, results, Options(formats=formats), lambda: Tools(pipeline, listener)).status


def test_a_video_is_spoken_and_read_at_once(pipeline, video, tmp_path, capsys):
    listener = Listener()
    formats = ("wav", "mp4", "txt", "srt", "vtt", "json")
    assert speak(pipeline, video, tmp_path, formats, listener) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / f"a b.{suffix}") for suffix in formats]
    samples, rate = soundfile.read(tmp_path / "a b.wav")
    assert len(listener.waves[0]) == len(samples) * 8_000 // rate
    assert (tmp_path / "a b.txt").read_text(encoding="utf-8") == "bin blüe now\n"
    with (tmp_path / "a b.srt").open(encoding="utf-8") as file:
        assert [cue.content for cue in srt.parse(file)] == ["bin blüe", "now"]
    assert [cue.text for cue in webvtt.read(str(tmp_path / "a b.vtt"))] == ["bin blüe", "now"]
    assert json.loads((tmp_path / "a b.json").read_text(encoding="utf-8"))["text"] == "bin blüe now"
    assert captions(tmp_path / "a b.mp4") == [(300, 1000, "bin blüe"), (2050, 2100, "now")]


def test_speech_that_was_not_read_has_no_words_to_write(pipeline, video, tmp_path):
    with pytest.raises(ConfigError, match="was not read"):
        pipeline.speak(video).save(tmp_path, formats=("srt",))


def captions(path: Path) -> list[tuple[int, int, str]]:
    """Decode the subtitle track of a video: from, to and text."""
    found = []
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        assert stream.codec_context.name == "mov_text"
        for packet in container.demux(stream):
            for subtitle in packet.decode():
                text = subtitle.ass.decode().split(",", 8)[-1]
                found.append((int(packet.pts), int(packet.pts + packet.duration), text))
    return found


def test_a_track_beside_the_sound_leaves_both_as_they_are(video, tmp_path):
    wave = np.zeros(16_000, np.float32)
    media.write_video(video, wave, 16_000, tmp_path / "plain.mp4")
    media.write_video(video, wave, 16_000, tmp_path / "text.mp4", [media.Caption(0, 500, "bin\nblue")])
    plain, text = (media.probe(tmp_path / f"{name}.mp4") for name in ("plain", "text"))
    assert plain == text
    frames = [[f.image for f in media.stream_frames(tmp_path / f"{name}.mp4")] for name in ("plain", "text")]
    assert np.array_equal(*frames)
    with av.open(str(tmp_path / "plain.mp4")) as container:
        assert not container.streams.subtitles
    assert captions(tmp_path / "text.mp4") == [(0, 500, "bin\\Nblue")]


def test_without_words_there_is_no_track_but_a_note(pipeline, video, tmp_path, capsys):
    speak(pipeline, video, tmp_path, ("mp4", "srt"), Listener(Transcript(note="silence: x")))
    assert "silence: x" in capsys.readouterr().err
    assert (tmp_path / "a b.srt").read_text() == ""
    with av.open(str(tmp_path / "a b.mp4")) as container:
        assert not container.streams.subtitles


def test_the_sound_of_a_video_can_be_read(video, tmp_path, capsys):
    silent = tmp_path / "silent.mkv"
    with av.open(str(video)) as source, av.open(str(silent), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    listener = Listener()
    results = Results(tmp_path / "out")

    def read(found: Found, **options: object) -> tuple[int, int, int]:
        tally = read_sound(found, results, SoundOptions(**options), lambda: listener)
        return tally.done, tally.skipped, tally.failed

    found = find_jobs([video, silent], results)
    assert read(found) == (1, 0, 1)
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(tmp_path / "out" / f"{video.stem}.txt")]
    assert "has no audio" in err
    assert np.array_equal(listener.waves[0], media.read_audio(video, 8_000))
    assert read(found) == (0, 1, 1)
    assert read(find_jobs([video], results), formats=("txt", "json")) == (1, 0, 0)
    told = json.loads((tmp_path / "out" / f"{video.stem}.json").read_text(encoding="utf-8"))
    assert (told["text"], told["source"]) == (SAID.text, str(video))
    with pytest.raises(ConfigError, match="unknown format 'doc'"):
        read(found, formats=("doc",))


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_a_sound_file_can_be_read(suffix, tmp_path):
    wave = np.zeros(8_000, np.float32)
    wave[4_000:4_100] = 0.5
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / f"a.{suffix}", wave, 8_000)
    listener, results = Listener(), Results(tmp_path / "out")
    found = find_jobs([folder], results, SOUND_SUFFIXES)
    assert read_sound(found, results, SoundOptions(), lambda: listener).status == 0
    assert abs(len(listener.waves[0]) - 8_000) <= 1152 + 8
    assert abs(int(np.abs(listener.waves[0]).argmax()) - 4_050) < 400


def test_the_name_of_a_pack_is_its_recogniser(run, recognizer, tmp_path, monkeypatch):
    write_pack(
        {"model": run, "recognizer": recognizer}, tmp_path / "packs" / "ours", PackInfo("ours", "1", "x", "y"), ""
    )
    monkeypatch.setenv("LIPSOUND2_PACKS", str(tmp_path / "packs"))
    assert choose("ours", None).alphabet.characters == "ab "
    with pytest.raises(LipSoundError, match="no recogniser and no folder 'theirs'") as caught:
        choose("theirs", None)
    assert "ours" in caught.value.hint


def test_by_default_a_language_model_is_used_where_there_is_one(recognizer):
    beam = BeamConfig(width=2)
    assert choose(str(recognizer), None, beam=beam, needs_language=True).beam is None
    assert choose(str(recognizer), None, beam=beam).beam is not None
    write_arpa(recognizer / "best" / LANGUAGE_NAME, train_ngram([["a", "b"]]))
    assert choose(str(recognizer), None, beam=beam, needs_language=True).beam is not None


@pytest.fixture
def recognizer(tmp_path) -> Path:
    torch.manual_seed(0)
    save_recognizer(tmp_path / "listener" / "best", Jasper(tiny("ab ")))
    return tmp_path / "listener"


def test_the_command_reads_lips_and_sound(pack, recognizer, video, tmp_path):
    command = ["read", str(video), "-o", str(tmp_path / "out"), "-f", "txt,json", "--recognizer", str(recognizer)]
    done = CliRunner().invoke(app, [*command, "--pack", str(pack)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    stem = video.stem
    assert [Path(line).name for line in done.stdout.splitlines()] == [f"{stem}.txt", f"{stem}.json"]
    assert "noise" in done.stderr, "an untrained recogniser is not sure of anything"
    assert (tmp_path / "out" / f"{stem}.txt").read_text() == "\n"
    # Neither a model nor a face is needed to read a sound track.
    done = CliRunner().invoke(app, [*command, "--pack", "none", "--sound", "--force"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr


def test_the_command_names_what_is_missing(pack, video, tmp_path):
    for message, options in (
        ("the pack holds no recogniser", ["--pack", str(pack)]),
        ("unknown format 'wav'", ["-f", "wav"]),
        ("no recogniser and no folder 'x'", ["--recognizer", "x"]),
    ):
        with pytest.raises(LipSoundError, match=message):
            CliRunner().invoke(app, ["read", str(video), "-o", str(tmp_path), *options], catch_exceptions=False)


def test_speak_with_text_asks_for_a_recogniser(pack, video, tmp_path):
    with pytest.raises(LipSoundError, match="the pack holds no recogniser"):
        CliRunner().invoke(
            app, ["speak", str(video), "-o", str(tmp_path), "--text", "--pack", str(pack)], catch_exceptions=False
        )


def test_an_archive_of_nemo_becomes_a_recogniser(run, video, tmp_path):
    path = archive(tmp_path / "model.nemo", settings(make.JASPER), weights(make.JASPER, 0))
    done = CliRunner().invoke(app, ["import", "jasper", str(path), "-o", str(tmp_path / "in")], catch_exceptions=False)
    assert done.stdout == f"{tmp_path / 'in'}\n"
    command = ["read", str(video), "--sound", "--recognizer", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    info = PackInfo("mine", "1", "CC-BY-4.0", "nothing")
    made = write_pack({"model": run, "recognizer": tmp_path / "in"}, tmp_path / "mine", info, "# Mine\n")
    assert choose("jasper", find_pack(made.folder).recognizer).alphabet.characters == make.LABELS
