"""The simulated clips that ship with the tests: picture, sound and text belong together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipsound2.corpora import read_folder
from lipsound2.faces import MtcnnDetector
from lipsound2.media import probe, read_audio, stream_frames
from lipsound2.simulate.studio import SimulateConfig, Studio
from lipsound2.simulate.visemes import ORGANS, articulate
from lipsound2.simulate.voice import Timed

ROOT = Path(__file__).parent / "data" / "sim"
VIDEOS = sorted(ROOT.glob("sim*/*.mp4"))
MADE_WITH = SimulateConfig(clips=6, speakers=2, seed=293, size=128, difficulty=0.5)
"""As in recipes/simulate_samples.py."""


def description(video: Path) -> dict[str, Any]:
    return json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))


def timed(video: Path, key: str) -> list[Timed]:
    return [Timed(item[key], item["start"], item["end"]) for item in description(video)[f"{key}s"]]


@pytest.fixture(scope="module")
def detector() -> MtcnnDetector:
    return MtcnnDetector()


def test_they_are_few_and_small():
    assert len(VIDEOS) == 6
    assert all(video.stat().st_size < 60_000 for video in VIDEOS)
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) < 300_000
    assert "CC0 1.0" in (ROOT / "LICENSE.md").read_text(encoding="utf-8")


def test_a_corpus_reader_reads_them():
    clips = list(read_folder(ROOT))
    assert [clip.video for clip in clips] == VIDEOS
    assert {clip.speaker for clip in clips} == {"sim01", "sim02"}
    assert sorted(clip.split for clip in clips) == ["test", "train", "train", "train", "train", "val"]
    for clip in clips:
        described = description(clip.video)
        assert (described["clip"], described["split"], described["transcript"]) == (
            clip.id,
            clip.split,
            clip.transcript,
        )


def test_their_sentences_are_still_those_that_their_seed_gives():
    studio = Studio(MADE_WITH)
    plans = [studio.plan(clip) for clip in range(6)]
    assert sorted(plan.name for plan in plans) == [clip.id for clip in read_folder(ROOT)]
    splits = {clip.id: clip.split for clip in read_folder(ROOT)}
    assert all(splits[plan.name] == plan.split for plan in plans)


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video.stem)
def test_picture_and_sound_are_equally_long(video):
    info, described = probe(video), description(video)
    assert (info.width, info.height, info.fps, info.sample_rate) == (128, 128, 25, 16_000)
    frames = sum(1 for _ in stream_frames(video))
    assert frames == described["frames"]
    samples = len(read_audio(video, 16_000))
    assert 0 <= samples - frames * 640 < 1024  # AAC fills its last block


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video.stem)
def test_times_are_those_of_the_words(video):
    words, phones = timed(video, "word"), timed(video, "phone")
    assert " ".join(word.label for word in words) == description(video)["transcript"]
    edges = [time for phone in phones for time in (phone.start, phone.end)]
    assert edges == sorted(edges)
    assert words[0].start == phones[0].start
    assert words[-1].end == phones[-1].end < description(video)["frames"] / 25
    wave = read_audio(video, 16_000)
    speech = wave[int(edges[0] * 16_000) : int(edges[-1] * 16_000)]
    assert np.abs(wave[: int((edges[0] - 0.06) * 16_000)]).max() < 0.1 * np.abs(speech).max()


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video.stem)
def test_the_mouth_opens_in_step_with_the_phones(video, detector):
    dark = []
    for frame in stream_frames(video):
        faces = detector.detect(frame.image)
        assert len(faces) == 1, f"{len(faces)} faces in frame {frame.number}"
        left, right = faces[0].points()[3:]
        dark.append(darkness(frame.image, (left + right) / 2, float(np.linalg.norm(right - left))))
    times = (np.arange(len(dark)) + 0.5) / 25
    organs = dict(zip(ORGANS, articulate(timed(video, "phone"), times, len(dark) / 25).T, strict=True))
    opening = organs["jaw"] * (1 - organs["close"]) * (1 - organs["tuck"])
    match = [np.corrcoef(dark[5:-5], np.roll(opening, lag)[5:-5])[0, 1] for lag in range(-4, 5)]
    assert abs(int(np.argmax(match)) - 4) <= 1
    assert match[4] > 0.6


def darkness(image: np.ndarray, mouth: np.ndarray, width: float) -> float:
    """Tell how much darker the inside of an open mouth is than what is around it."""
    x, y = mouth
    rows = slice(int(y - 0.3 * width), int(y + 0.45 * width) + 1)
    columns = slice(int(x - 0.35 * width), int(x + 0.35 * width) + 1)
    grey = image[rows, columns].mean(axis=2)
    return float(np.median(grey) - np.quantile(grey, 0.08))
