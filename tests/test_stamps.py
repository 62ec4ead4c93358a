import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from makers import counting_video, flash_and_click

from lipsound2 import media
from lipsound2.errors import MediaError

EXAMPLE = Path(__file__).parent.parent / "examples" / "bgal7s.mp4"


def brightness(path: Path) -> list[float]:
    return [float(frame.image.mean()) for frame in media.stream_frames(path)]


def ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def rising(path: Path, target: Path, *options: object) -> Path:
    counting_video(path, Fraction(25), 2.0)
    ffmpeg("-i", path, *options, target)
    return target


@pytest.mark.parametrize("suffix", ["avi", "h264"])
def test_pictures_without_stamps_are_all_shown_in_order(tmp_path, suffix):
    path = rising(tmp_path / "a.mp4", tmp_path / f"a.{suffix}", "-c:v", "libx264", "-bf", 3, "-an")
    stream = media.stream_frames(path)
    seen = [float(frame.image.mean()) for frame in stream]
    assert len(seen) == 50
    assert (np.diff(seen) > 0).all()
    assert stream.account.decoded == stream.account.used == 50
    assert stream.account.notes() == ("time stamps were missing: pictures are taken at the stated 25 fps",)
    media.write_video(path, np.zeros(32_000, np.float32), 16_000, tmp_path / "out.mp4")
    assert len(brightness(tmp_path / "out.mp4")) == 50


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_joined_recordings_go_on(tmp_path, codec):
    part = rising(tmp_path / "a.mp4", tmp_path / "a.ts", "-c:v", codec)
    path, target = tmp_path / "joined.ts", tmp_path / "out.mp4"
    path.write_bytes(part.read_bytes() * 2)
    stream = media.stream_frames(path)
    assert len(list(stream)) == pytest.approx(100, abs=2)
    assert stream.account.restarts == 1
    media.write_video(path, np.zeros(64_000, np.float32), 16_000, target)
    assert len(brightness(target)) == pytest.approx(100, abs=2)


def test_a_jump_of_hours_is_cut(tmp_path):
    path = tmp_path / "jump.mkv"
    jump = "setpts=PTS+gte(N\\,25)*36000/TB"
    rising(tmp_path / "a.mp4", path, "-vf", jump, "-fps_mode", "passthrough", "-c:v", "libx264")
    stream = media.stream_frames(path)
    assert len(list(stream)) == 50
    assert stream.account.notes() == ("gaps of 36,000 s in the time stamps were cut",)


def test_sound_without_decoder_leaves_the_picture(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(EXAMPLE.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz"))
    assert media.probe(path).audio_codec is None
    assert len(brightness(path)) > 20
    with pytest.raises(MediaError, match="no decoder"):
        media.read_audio(path, 16_000)


@pytest.mark.parametrize("name", ["12:30.mp4", "pipe:0.mp4", "concat:x.mp4", "-x.mp4", "a%d.mp4"])
def test_a_name_is_never_an_address(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    flash_and_click(tmp_path / "a.mp4", "libx264", "aac")
    (tmp_path / "a.mp4").rename(name)
    assert len(brightness(Path(name))) == 50
    media.write_video(Path(name), np.zeros(320, np.float32), 16_000, Path("o:" + name))
    assert Path("o:" + name).stat().st_size


def test_addresses_devices_and_lists_have_their_line(tmp_path):
    listing = tmp_path / "a.mp4"
    listing.write_text("ffconcat version 1.0\nfile b.mp4\n")
    for path, message in [(Path("http://x.org/a.mp4"), "address"), (Path("/dev/null"), "device"), (listing, "names")]:
        with pytest.raises(MediaError, match=message):
            media.probe(path)


@pytest.mark.parametrize(("codec", "tag", "canonical"), [("libx265", "hvc1", "hevc"), ("libsvtav1", "av01", "av1")])
def test_codec_and_tag_are_kept(tmp_path, codec, tag, canonical):
    path = tmp_path / "b.mp4"
    rising(tmp_path / "a.mp4", path, "-vf", "scale=128:96", "-c:v", codec, "-tag:v", tag)
    media.write_video(path, np.zeros(32_000, np.float32), 16_000, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        video = container.streams.video[0]
        assert (video.codec.canonical_name, video.codec_context.codec_tag) == (canonical, tag)


def test_the_default_track_is_taken(tmp_path):
    counting_video(tmp_path / "a.mp4", Fraction(25), 0.4)
    path = tmp_path / "two.mkv"
    ffmpeg("-i", tmp_path / "a.mp4", "-filter_complex", "[0:v]scale=128:96[b]", "-map", "0:v", "-map", "[b]",
           "-disposition:v:0", "0", "-disposition:v:1", "default", path)  # fmt: skip
    assert next(media.stream_frames(path)).image.shape == (96, 128, 3)
