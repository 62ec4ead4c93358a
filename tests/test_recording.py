"""Long recordings and several faces: what becomes a sample, what is lost and why, and that memory stays bounded."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from lipsound2 import faces, media
from lipsound2.corpora import Clip
from lipsound2.data.following import Follower
from lipsound2.data.pauses import quietest
from lipsound2.data.prepare import PrepareConfig, prepare
from lipsound2.data.recording import NothingKeptError, make_samples
from lipsound2.data.sample import SampleConfig, decode_crops, decode_wave
from lipsound2.data.shards import read_index, read_wave
from lipsound2.media import Frame
from lipsound2.trails import Face

RATE = 16_000


def film(path: Path, seconds: float, sound: Callable[[np.ndarray], np.ndarray] | None = None) -> Path:
    """Write frames whose first pixels tell their number, in blocks that survive compression, and a sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "bgr0"
        audio = container.add_stream("flac", rate=RATE, layout="mono")
        for number in range(round(seconds * 25)):
            image = np.full((64, 96, 3), 90, np.uint8)
            image[0, 0] = (number % 256, number // 256, 0)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        times = np.arange(round(seconds * RATE)) / RATE
        wave = sound(times) if sound else 0.3 * np.sin(times * 2 * np.pi * 200)
        for start in range(0, len(wave), 4096):
            chunk = (wave[start : start + 4096] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(chunk[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), start
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


class Scripted:
    """A detector that sees in each frame the faces that a script puts there: centre and size in pixels."""

    def __init__(self, script: Callable[[int], list[tuple[float, float]]]) -> None:
        self.script = script

    def detect(self, image: np.ndarray) -> list[Face]:
        number = int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])
        return [
            Face(np.array([x - size / 2, 32 - size / 2, x + size / 2, 32 + size / 2]), 1.0)
            for x, size in self.script(number)
        ]


def always(number: int) -> list[tuple[float, float]]:
    return [(48, 30)]


def talk(path: Path, transcript: str | None = None) -> Clip:
    return Clip("ann/talk", path, "ann", "train", transcript)


def made(path: Path, script: Callable[[int], list[tuple[float, float]]], **settings: object) -> list:
    return list(make_samples(talk(path, "words"), Scripted(script), SampleConfig(**settings)))


def spans(samples: list) -> list[tuple[int, int]]:
    return [(each.meta["first_frame"], each.meta["first_frame"] + each.meta["frames"]) for each in samples]


def test_a_short_clip_of_one_face_is_one_sample_as_it_always_was(tmp_path):
    (sample,) = made(film(tmp_path / "a.mkv", 3), always)
    assert sample.key == "ann/talk"
    assert {name: value for name, value in sample.meta.items() if name != "audio"} == {
        "id": "ann/talk",
        "speaker": "ann",
        "split": "train",
        "transcript": "words",
        "frames": 75,
        "first_frame": 0,
        "fps": 25,
        "sample_rate": RATE,
    }
    assert len(decode_crops(sample.files["mp4"])) == 75
    assert len(decode_wave(sample.files["flac"])) == 3 * RATE


def test_a_long_recording_is_split_at_its_pauses_and_nothing_is_lost(tmp_path):
    pauses = (3.4, 6.1, 9.0)

    def sound(times: np.ndarray) -> np.ndarray:
        silent = np.any([np.abs(times - pause) < 0.2 for pause in pauses], axis=0)
        return np.where(silent, 0.001, 0.5) * np.sin(times * 2 * np.pi * 300)

    path = film(tmp_path / "a.mkv", 12, sound)
    samples = made(path, always, longest=4.0)
    found = spans(samples)
    assert found[0][0] == 0
    assert found[-1][1] == 300
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert all(2 * 25 <= stop - start <= 4 * 25 for start, stop in found)
    for cut, pause in zip(found, pauses, strict=False):
        assert abs(cut[1] / 25 - pause) <= 0.2
    assert [each.meta["id"] for each in samples] == [f"ann/talk#0{n}" for n in range(1, len(samples) + 1)]
    assert {each.meta["clip"] for each in samples} == {"ann/talk"}
    assert [each.meta["start"] for each in samples] == [round(start / 25, 3) for start, _ in found]
    assert {each.meta["transcript"] for each in samples} == {None}
    account = samples[-1].meta["account"]
    assert account == {"found": 12.0, "kept": 12.0, "lost": {}, "samples": len(samples), "untold": 1}
    whole = media.read_audio(path, RATE)
    parts = np.concatenate([decode_wave(each.files["flac"]) for each in samples])
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    assert all(len(decode_crops(each.files["mp4"])) == each.meta["frames"] for each in samples)


def test_without_a_pause_a_stretch_is_split_all_the_same(tmp_path):
    found = spans(made(film(tmp_path / "a.mkv", 9), always, longest=4.0))
    assert found[-1][1] == 225
    assert all(0.5 * 25 <= stop - start <= 4 * 25 for start, stop in found)


@pytest.mark.parametrize("pause", [60, 80, 99])
def test_the_quietest_moment_is_found(pause):
    wave = np.ones(120 * 640, np.float32)
    wave[(pause - 4) * 640 : (pause + 4) * 640] = 0
    assert abs(quietest(wave, 120, 50, 100) - pause) <= 1


def test_time_without_a_face_splits_and_is_counted(tmp_path):
    def script(number: int) -> list[tuple[float, float]]:
        return [] if 100 <= number < 150 or number >= 240 else [(48, 30)]

    samples = made(film(tmp_path / "a.mkv", 10), script)
    assert spans(samples) == [(0, 96), (150, 236)]
    account = samples[-1].meta["account"]
    assert account["lost"] == {"no face": round(68 / 25, 3)}
    assert account["kept"] == round(182 / 25, 3)
    assert account["found"] == account["kept"] + sum(account["lost"].values())


def two(number: int) -> list[tuple[float, float]]:
    """One person, then both, then the other, who is a little larger."""
    return [(25, 30)] * (number < 150) + [(70, 32)] * (number >= 75)


@pytest.mark.parametrize(
    ("several", "wanted", "lost"),
    [
        ("leave", [(0, 75), (146, 225)], {"several faces": 71 / 25}),
        ("largest", [(0, 75), (75, 225)], {}),
        ("each", [(0, 146), (75, 225)], {}),
    ],
)
def test_people_by_turns_are_samples_each_and_together_as_asked(tmp_path, several, wanted, lost):
    samples = made(film(tmp_path / "a.mkv", 9), two, several=several)
    assert sorted(spans(samples)) == wanted
    assert samples[-1].meta["account"]["lost"] == {name: pytest.approx(value) for name, value in lost.items()}


def test_a_bystander_and_a_false_detection_cost_nothing(tmp_path):
    def script(number: int) -> list[tuple[float, float]]:
        return [(30, 30), (80, 12), *([(60, 40)] if number == 50 else [])]

    assert spans(made(film(tmp_path / "a.mkv", 4), script)) == [(0, 100)]


@pytest.mark.parametrize(
    ("script", "reason", "lost"),
    [
        (lambda number: [], "no face found", {"no face": 4.0}),
        (lambda number: [(48, 30)] * (number < 10), "only 0.24 s", {"too short": 0.24, "no face": 3.76}),
        (lambda number: [(25, 30), (70, 30)], "several faces for 4.00 of 4.00 s", {"several faces": 4.0}),
    ],
)
def test_a_video_of_no_sample_says_why(tmp_path, script, reason, lost):
    with pytest.raises(NothingKeptError, match=reason) as caught:
        made(film(tmp_path / "a.mkv", 4), script)
    assert caught.value.account.facts() == {"found": 4.0, "kept": 0.0, "lost": lost, "samples": 0}


def test_crops_are_those_of_two_passes():
    def script(number: int) -> list[tuple[float, float]]:
        return [(30 + number / 6 + 3 * np.sin(number), 30 + number / 20)]

    detector, frames = Scripted(script), []
    for number in range(140):
        image = np.random.default_rng(number).integers(0, 100, (64, 96, 3), dtype=np.uint8)
        image[0, 0] = (number % 256, number // 256, 0)
        frames.append(Frame(number, image))
    (track,) = faces.find_tracks(frames, detector).tracks
    wanted = list(faces.crop_faces(frames, track))
    follower = Follower(detector, 5, "leave")
    found = [crop for crop in follower(frames) if crop.pixels is not None]
    assert [crop.frame for crop in found] == list(range(track.start, track.stop))
    for crop, old in zip(found, wanted, strict=True):
        assert np.abs(crop.pixels.astype(int) - old).mean() < 0.5


def test_a_large_face_is_held_reduced_and_cropped_the_same():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (27, 48, 3)).astype(np.uint8)
    image = np.ascontiguousarray(np.kron(coarse, np.ones((40, 40, 1), np.uint8)))
    face = Face(np.array([600.0, 100, 1200, 1000]), 1.0)

    class Detector:
        def detect(self, image: np.ndarray) -> list[Face]:
            return [face]

    frames = [Frame(number, image) for number in range(60)]
    (track,) = faces.find_tracks(frames, Detector()).tracks
    wanted = next(faces.crop_faces(frames, track))
    crop = next(each for each in Follower(Detector(), 5, "leave")(frames))
    assert np.abs(crop.pixels.astype(int) - wanted).mean() < 6


class OneFace:
    """Sees the same face everywhere; made in worker processes."""

    def detect(self, image: np.ndarray) -> list[Face]:
        return [Face(np.array([33.0, 17, 63, 47]), 1.0)]


def test_parts_lie_in_shards_and_are_found_complete_or_made_again(tmp_path, capsys):
    clips = [talk(film(tmp_path / "a.mkv", 9)), Clip("ben/word", film(tmp_path / "b.mkv", 2), "ben", "train")]
    config = PrepareConfig(SampleConfig(longest=4.0), workers=1)
    output = tmp_path / "out"
    summary = prepare(clips, output, config, OneFace)
    entries = read_index(output)
    assert summary.samples == len(entries) == summary.account.samples > 3
    assert summary.account.found == pytest.approx(11) == summary.account.kept
    assert sum(len(read_wave(output, entry)) for entry in entries) == 11 * RATE
    before = (output / "train-00000.tar").read_bytes()
    assert prepare(clips, output, config, OneFace) == summary
    assert capsys.readouterr().err == ""
    lines = (output / "index.jsonl").read_text().splitlines()
    (output / "index.jsonl").write_text("\n".join(lines[1:]) + "\n")
    assert prepare(clips, output, config, OneFace) == summary
    assert "prepared again" in " ".join(capsys.readouterr().err.split())
    assert (output / "index.jsonl").read_text().splitlines() == lines
    assert (output / "train-00000.tar").read_bytes() == before
