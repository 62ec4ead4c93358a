import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_evaluation import Box
from test_model import make, tiny
from test_training import cpu
from typer.testing import CliRunner

import lipsound2
from lipsound2.adapt import adapt as module
from lipsound2.adapt import level, survey, sync, words
from lipsound2.adapt.adapt import Request, adapt
from lipsound2.adapt.choose import hold_out
from lipsound2.adapt.consent import declare, read_consent
from lipsound2.adapt.languages import guess_language
from lipsound2.adapt.level import Level
from lipsound2.adapt.look import Look
from lipsound2.adapt.people import find_people
from lipsound2.adapt.plan import Plan, choose_settings
from lipsound2.adapt.survey import Survey, check, lines, reasons, warnings
from lipsound2.adapt.sync import Sums
from lipsound2.cli import app
from lipsound2.config import to_json
from lipsound2.corpora.folder import find_videos
from lipsound2.data.dataset import EpochBatches
from lipsound2.errors import ConfigError, DataError, LipSoundError
from lipsound2.packs import PackInfo, find_pack, write_pack
from lipsound2.runtime.weights import save_weights
from lipsound2.text.alphabet import Transcript, Word

RATE = 100.0
"""Mel frames a second."""


def unit(rng: np.random.Generator, near: np.ndarray, spread: float) -> tuple[float, ...]:
    """Return a vector of length 1 near another."""
    vector = near + spread * rng.standard_normal(len(near))
    return tuple(float(value) for value in vector / np.linalg.norm(vector))


def mels(seed: int, late: int, match: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return what a model predicts of a clip of 4 s and its reference, which is late by so many frames."""
    rng = np.random.default_rng(seed)
    syllables = np.repeat(rng.standard_normal((80, 60)), 10, axis=1)
    noise = rng.standard_normal((80, 600))
    said = (match * syllables + (1 - match) * noise).astype(np.float32)
    return said[:, 100:500], syllables[:, 100 - late : 500 - late].astype(np.float32)


def looks(voice: int, face: int, clips: int = 12, late: int = 0, seconds: float = 5.0) -> list[Look]:
    """Return looks at clean clips of one person."""
    rng = np.random.default_rng([voice, face, clips])
    centres = [np.random.default_rng(number).standard_normal(40) / 40**0.5 for number in (voice, 100 + face)]
    found = Level(seconds, 0.8 * seconds, -20.0, -60.0, 0.0)
    return [
        Look(
            f"{voice}-{face}-{i}",
            f"p{voice}/{i}",
            found,
            unit(rng, centres[0], 0.05),
            unit(rng, centres[1], 0.05),
            sync.compare(*mels(i, late), RATE),
        )
        for i in range(clips)
    ]


def survey_of(clips: list[Look], **more: object) -> Survey:
    return survey.survey(Path("me"), len(clips), {}, clips, {}, RATE, **more)


@pytest.mark.parametrize("late", [0, 100, -80])
def test_the_lag_of_sound_is_found(late):
    found = sync.find_lag([sync.compare(*mels(i, late, 0.6), RATE) for i in range(4)], RATE)
    assert found.clear
    assert found.seconds == pytest.approx(late / RATE, abs=0.02)


def test_a_lag_that_cannot_be_told_is_not_told():
    others = [sync.compare(mels(i, 0)[0], mels(i + 50, 0)[1], RATE) for i in range(8)]
    assert not sync.find_lag(others, RATE).clear
    assert sync.find_lag([], RATE) is None
    silent = np.full((80, 300), -12.0, np.float32)
    assert sync.find_lag([sync.compare(silent, silent, RATE)], RATE) is None
    short = sync.compare(*(mel[:, :20] for mel in mels(0, 0)), RATE)
    assert isinstance(short, Sums)


def test_loudness_noise_and_clipping_are_measured():
    rng = np.random.default_rng(0)
    time = np.arange(4 * 16_000) / 16_000
    spoken = (time % 2 < 1.2) * 0.3 * np.sin(2 * np.pi * 200 * time)
    for noise in (0.001, 0.03):
        found = level.measure((spoken + noise * rng.standard_normal(len(time))).astype(np.float32), 16_000)
        assert found.noise == pytest.approx(20 * np.log10(noise), abs=1.5)
        assert found.speech == pytest.approx(2.4, abs=0.5)
        assert found.clipped == 0
    assert level.measure(np.clip(9 * spoken, -1, 1).astype(np.float32), 16_000).clipped > 0.5
    assert level.measure(np.zeros(16_000, np.float32), 16_000).silent
    assert level.measure(np.zeros(16_000, np.float32), 16_000).speech == 0
    assert level.measure(np.zeros(10, np.float32), 16_000).speech == 0


def test_people_are_told_apart_by_voice():
    people = find_people(looks(1, 1, 12) + looks(2, 2, 5))
    assert [len(person.clips) for person in people] == [12, 5]
    assert len(find_people(looks(1, 1, 6) + looks(1, 3, 6))) == 1


def test_a_clean_folder_is_taken():
    found = survey_of(looks(1, 1, 60))
    check(found)
    assert warnings(found) == []
    told = "\n".join(lines(found))
    for fact in (
        "4.0 minutes in 60 clips",
        "voices: 1",
        "faces: 1",
        "in step within",
        "40 dB below",
        "0% of the clips",
    ):
        assert fact in told


def test_two_people_by_turns_are_refused_and_one_can_be_chosen():
    both = looks(1, 1, 12) + looks(2, 2, 10)
    with pytest.raises(DataError, match=r"holds 2 voices by turns: .* as in p1/0, .* as in p2/0"):
        check(survey_of(both))
    chosen = survey_of(both, person="p2/3.mp4")
    assert {look.id.split("/")[0] for look in chosen.kept} == {"p2"}
    with pytest.raises(DataError, match="no video of me"):
        survey_of(both, person="p3/1")
    few = survey_of(looks(1, 1, 30) + looks(2, 2, 2))
    check(few)
    assert len(few.kept) == 30
    assert "2 clips of others left out" in "\n".join(lines(few))


def test_a_folder_dubbed_by_a_second_is_refused_with_the_remedy():
    with pytest.raises(DataError, match=r"the sound is 1\.00 s later than the picture") as caught:
        check(survey_of(looks(1, 1, late=100)))
    assert "-itsoffset -1.00" in caught.value.hint


def test_ten_seconds_are_too_little_and_it_says_what_is_missing():
    with pytest.raises(DataError, match="holds 10 seconds of speech with a face, at least 30 seconds") as caught:
        check(survey_of(looks(1, 1, 12, seconds=1.04)))
    assert "add 20 seconds or more" in caught.value.hint
    with pytest.raises(DataError, match="3 clips of the person, at least 8"):
        check(survey_of(looks(1, 1, 3, seconds=20.0)))


def test_videos_without_face_or_sound_are_refused_with_the_reason():
    failures = [
        {"video": f"me/{i}.mp4", "reason": f"me/{i}.mp4: no face found in the whole video"} for i in range(3)
    ] + [{"video": "me/4.mp4", "reason": "me/4.mp4 has no audio"}]
    found = survey.survey(Path("me"), 4, reasons(failures), [], {}, RATE)
    with pytest.raises(DataError, match=r"no video of me can be used: no face found in the whole video \(3 of 4\)"):
        check(found)
    found = survey.survey(Path("me"), 1, reasons(failures[3:]), [], {}, RATE)
    with pytest.raises(DataError, match=r"it has no audio \(1 of 1\)"):
        check(found)
    silent = [replace(look, voice=(), sums=None) for look in looks(1, 1)]
    with pytest.raises(DataError, match="nobody is heard in any of the 12 videos"):
        check(survey_of(silent))


def test_noise_clipping_little_material_and_other_faces_are_warned_of():
    poor = Level(5.0, 4.0, -20.0, -30.0, 0.1)
    clips = [replace(look, level=poor) for look in looks(1, 1, 12) + looks(1, 3, 12)]
    told = "\n".join(warnings(survey_of(clips)))
    assert "the noise is only 10 dB" in told
    assert "100% of the clips is clipped" in told
    assert "1.6 minutes of speech are little: 1.4 minutes more" in told
    assert "2 looks of the face" in told
    assert "cannot be told" in "\n".join(warnings(survey_of([replace(look, sums=None) for look in clips])))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("bin blue at f two now please", "English"),
        ("ich habe das nicht auf dem Tisch", "German"),
        ("je ne suis pas dans la maison", "French"),
        ("привет мир", "Cyrillic"),
        ("xyzzy plugh", "unknown"),
    ],
)
def test_the_language_of_transcripts_is_guessed(text, language):
    assert guess_language([text]) == language


def test_some_clips_are_held_out_for_good():
    keys = [f"clip{i}" for i in range(75)]
    splits = hold_out(keys)
    assert splits == hold_out(keys[::-1])
    assert sorted(splits.values()) == ["test"] * 11 + ["val"] * 6
    assert sorted(hold_out(keys[:6]).values()) == ["test"] * 3 + ["val"] * 2


def test_settings_follow_the_amount():
    few, more = (choose_settings([2.6] * clips, 4, 4.0, True) for clips in (35, 460))
    assert few.updates < more.updates
    for plan in (few, more):
        assert plan.recipe.loss.guided_weight > 0
        assert plan.recipe.train.patience > 0
    assert choose_settings([2.6] * 35, 4, 4.0, False).updates > few.updates


@pytest.mark.parametrize(("lengths", "examples"), [([2.6] * 24, 24), ([9.0] * 11, 22), ([4.0, 4.1, 40.0], 12)])
def test_as_many_updates_are_done_as_are_said_at_most(lengths, examples):
    plan = choose_settings(lengths, 4, 4.0, True)
    train = plan.recipe.train
    assert plan.updates <= 300
    batches = EpochBatches(examples, train.batch_size, True, 0)
    assert plan.updates == train.epochs * batches.batches


def quiet(_: str):
    @contextmanager
    def bar() -> Iterator[object]:
        yield lambda done, total: None

    return bar()


@pytest.fixture
def base(tmp_path) -> Path:
    """A tiny pack to start from."""
    best = tmp_path / "run" / "best"
    best.mkdir(parents=True)
    (best / "config.json").write_text(to_json(tiny()))
    save_weights(best / "model.safetensors", make(tiny()).state_dict())
    info = PackInfo("small", "1", "CC0-1.0", "nothing")
    return write_pack({"model": best.parent}, tmp_path / "small", info, "# Small\n").folder


@pytest.fixture
def videos(clips, tmp_path) -> Path:
    """Nine videos of one simulated speaker."""
    folder = tmp_path / "my videos"
    folder.mkdir()
    for number, video in enumerate(find_videos(clips / "sim01")):
        for copy in range(3):
            shutil.copy(video, folder / f"{number}{copy}.mp4")
    return folder


def short(plan: Plan) -> Plan:
    train = replace(plan.recipe.train, epochs=1, batch_size=2, validate_steps=1)
    return replace(plan, recipe=replace(plan.recipe, train=train))


def test_a_folder_becomes_a_pack_that_speaks(base, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "LEAST", 3.0)
    monkeypatch.setattr(module, "METRICS", ("stoi",))
    request = Request(videos, tmp_path / "packs" / "me", str(base))
    planned = adapt(request, quiet, True, "cpu", 1, Box, short)
    assert planned.pack is None
    assert planned.seconds > 0
    assert not (request.work / "run").exists()
    with pytest.raises(ConfigError, match="their consent"):
        adapt(request, quiet, False, "cpu", 1, Box, short)
    declare(request.work, "by --i-have-consent")
    original = module._Work._measure
    with monkeypatch.context() as patch:
        patch.setattr(module._Work, "_measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt(request, quiet, False, "cpu", 1, Box, short)
    trained = (request.work / "run" / "metrics.jsonl").read_text()
    assert module._Work._measure is original
    made = adapt(request, quiet, False, "cpu", 1, Box, short)
    assert (request.work / "run" / "metrics.jsonl").read_text() == trained
    assert made.after.clips == made.before.clips == 3
    pack = find_pack(made.pack)
    assert pack.info.name == "me"
    assert "STOI" in pack.info.scores
    card = (pack.folder / "README.md").read_text()
    assert "by --i-have-consent" in card
    assert "- my videos: 9 videos" in card
    assert "| STOI |" in card
    speech = lipsound2.load(made.pack, device="cpu", detector=Box()).speak(videos / "00.mp4")
    assert speech.seconds > 2
    assert speech.origin == "reconstructed from lips by LipSound2 (me 1), not a recording"
    with pytest.raises(DataError, match="begun with other settings: several leave, not each"):
        adapt(replace(request, several="each"), quiet, False, "cpu", 1, Box, short)


def test_consent_is_asked_for_once(videos, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(module, "adapt", lambda *arguments: made.append(arguments) or (_ for _ in ()).throw(StopError))
    output = tmp_path / "packs" / "me"
    words_ = ["adapt", str(videos), "-o", str(output)]
    done = CliRunner().invoke(app, words_)
    assert isinstance(done.exception, ConfigError)
    assert "--i-have-consent" in done.exception.hint
    assert not made
    CliRunner().invoke(app, [*words_, "--i-have-consent"])
    CliRunner().invoke(app, words_)
    assert len(made) == 2
    assert read_consent(Request(videos, output).work).declared == "by --i-have-consent"


class StopError(Exception):
    pass


def test_what_is_no_folder_of_ours_is_not_replaced(base, videos, tmp_path):
    with pytest.raises(LipSoundError, match="was not made by adapt"):
        adapt(Request(videos, base, str(base)), quiet, True, "cpu", 1, Box)


def test_whisper_writes_down_what_has_no_transcript(prepared, tmp_path, monkeypatch):
    class Heard:
        name, sample_rate = "whisper", 16_000

        def transcribe(self, wave):
            return Transcript((Word("hello", 0.0, 1.0, 0.9),))

    from lipsound2.data.shards import read_index

    entries = read_index(prepared)[:2]
    monkeypatch.setattr(words, "WhisperRecognizer", lambda *_, **__: Heard())
    told = []
    found = words.write_down(prepared, entries, tmp_path, "cpu", lambda done, total: told.append((done, total)))
    assert set(found.values()) == {"hello"}
    assert told == [(1, 2), (2, 2)]
    monkeypatch.setattr(words, "WhisperRecognizer", None)
    assert words.write_down(prepared, entries, tmp_path, "cpu", lambda done, total: None) == found
    assert json.loads((tmp_path / words.HEARD_NAME).read_text()) == found


def test_the_recogniser_with_the_fewest_errors_is_kept(prepared, tmp_path, monkeypatch):
    class Reads:
        name, sample_rate = "some", 16_000

        def __init__(self, right: bool) -> None:
            self.right = right

        def transcribe(self, wave):
            return Transcript(tuple(Word(word, 0.0, 1.0, 0.9) for word in said.split()) if self.right else ())

    from lipsound2.data.shards import read_index

    entries = read_index(prepared)
    held_out = next(entry for entry in entries if entry.meta["split"] == "val")
    said = str(held_out.meta["transcript"])
    base = tmp_path / "base"
    base.mkdir()
    (base / words.LANGUAGE_NAME).write_text("the pack's")
    output = tmp_path / "recognizer"

    def trained(recipe, sources, folder, start, fabric):
        (folder / "best").mkdir(parents=True)
        (folder / "best" / words.LANGUAGE_NAME).write_text("the transcripts'")

    monkeypatch.setattr(words, "read_index", lambda _: [held_out])
    monkeypatch.setattr(words, "read_wave", lambda *_: np.zeros(16_000, np.float32))
    monkeypatch.setattr(words, "generate_speech", lambda *_, **__: None)
    monkeypatch.setattr(words, "run", trained)
    monkeypatch.setattr(words, "load", lambda folder, device: Reads(folder.name == "mixed"))
    choice = words.adapt_recognizer(prepared, tmp_path, base, output, cpu(), lambda done, total: None)
    assert choice.name == "mixed"
    assert choice.rates == {"pack": 100.0, "mixed": 0.0, "adapted": 100.0}
    assert (choice.folder / words.LANGUAGE_NAME).read_text() == "the pack's"
    monkeypatch.setattr(words, "run", None)
    assert words.adapt_recognizer(prepared, tmp_path, base, output, cpu(), lambda done, total: None) == choice
    assert not words.enough(entries)
