from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import typer
from makers import counting_video

from lipsound2 import media
from lipsound2.cli.options import seconds
from lipsound2.errors import ConfigError, MediaError
from lipsound2.media import Excerpt

LENGTH = 24.0


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts"])
def rising(request, tmp_path_factory) -> Path:
    """A video whose brightness is its time, with key frames that lie apart."""
    path = tmp_path_factory.mktemp("films") / f"rising.{request.param}"
    counting_video(path, Fraction(25), LENGTH)
    return path


def times(path: Path, excerpt: Excerpt = media.WHOLE) -> np.ndarray:
    """Return the time in the file of each frame, as its brightness tells it."""
    shown = [float(frame.image.mean()) for frame in media.stream_frames(path, excerpt=excerpt)]
    return (np.array(shown) - 20) * LENGTH / 200


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (2.0, 3.0), (13.52, 15.0), (22.0, None)])
def test_a_part_of_a_film_is_what_a_cut_of_all_frames_gives(rising, start, end):
    whole = times(rising)
    found = times(rising, Excerpt(start=start, end=end))
    np.testing.assert_array_equal(found, whole[round(start * 25) : None if end is None else round(end * 25)])


def test_a_film_that_plays_too_fast_is_seen_as_slowly_as_it_was_filmed(rising):
    excerpt = Excerpt(start=2.0, end=4.0, fps=20.0)
    found = times(rising, excerpt)
    assert len(found) in (62, 63), "2 s of 25 frames a second, filmed at 20, were 2.5 s"
    np.testing.assert_allclose(found, 2.0 + np.arange(len(found)) / 25 / 1.25, atol=0.25)
    assert excerpt.file_time(2.5, 25.0) == 4.0
    stream = media.stream_frames(rising, excerpt=excerpt)
    list(stream)
    assert stream.account.notes() == (), "nothing is missing that was not asked for"
    assert (stream.account.rate, stream.account.filmed) == (25.0, 20.0)


def test_the_new_video_is_as_long_as_the_excerpt_and_says_what_it_is(rising, tmp_path):
    wave = np.zeros(16_000 * 5 // 2, np.float32)
    tags = media.Tags("made up", "the sound", "the words", "deu")
    captions = [media.Caption(500, 1000, "bin")]
    target = tmp_path / "part.mp4"
    media.write_video(rising, wave, 16_000, target, captions, Excerpt(start=2.0, end=4.0, fps=20.0), tags)
    assert media.probe(target).duration == pytest.approx(2.5, abs=0.06)
    np.testing.assert_allclose(
        times(target)[::10], times(rising, Excerpt(start=2.0, end=4.0, fps=20.0))[::10], atol=0.4
    )
    with av.open(str(target)) as container:
        assert container.metadata["comment"] == "made up"
        (sound,), (words,) = container.streams.audio, container.streams.subtitles
        assert (sound.metadata["handler_name"], sound.metadata["language"]) == ("the sound", "deu")
        assert (words.metadata["handler_name"], words.metadata["language"]) == ("the words", "deu")


def test_what_is_no_part_of_a_film_is_refused(rising):
    with pytest.raises(MediaError, match=r"ends at 23\.96 s, before the start at 30 s"):
        times(rising, Excerpt(start=30.0))
    for wrong in ({"start": -1.0}, {"start": 2.0, "end": 2.0}, {"fps": 0.0}, {"start": float("nan")}):
        with pytest.raises(ConfigError, match="expected"):
            Excerpt(**wrong)


@pytest.mark.parametrize(("text", "found"), [("75.5", 75.5), ("1:15.5", 75.5), ("01:00:00", 3600.0), (0.0, 0.0)])
def test_times_are_written_as_for_ffmpeg(text, found):
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["soon", "1:75", "1:2:3:4", "-3", "", "1:-2", "nan"])
def test_other_times_are_refused(text):
    with pytest.raises(typer.BadParameter):
        seconds(text)
