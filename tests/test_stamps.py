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
    assert stream.account.notes() == ("time stamps were missing: frames are taken at the stated 25 fps",)
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
    for path, message in [(Path("http://x.org/a.mp4"), "URL"), (Path("/dev/null"), "device"), (listing, "names")]:
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


def corners(image: np.ndarray) -> list[int]:
    """Which corner of a picture is white: top left, top right, bottom left, bottom right."""
    height, width = image.shape[:2]
    values = [image[y, x].mean() for y in (4, height - 5) for x in (4, width - 5)]
    return [round(float(value) / 255) for value in values]


@pytest.fixture(scope="session")
def marked(tmp_path_factory) -> Path:
    """A wide video whose top left corner is white."""
    path = tmp_path_factory.mktemp("marked") / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        image = np.zeros((64, 96, 3), np.uint8)
        image[:32, :48] = 255
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


ONE = 1 << 16
MATRICES = {
    "as it is": ((ONE, 0, 0, ONE), [1, 0, 0, 0]),
    "mirrored": ((-ONE, 0, 0, ONE), [0, 1, 0, 0]),
    "upside down": ((ONE, 0, 0, -ONE), [0, 0, 1, 0]),
    "half a turn": ((-ONE, 0, 0, -ONE), [0, 0, 0, 1]),
    "a quarter to the right": ((0, ONE, -ONE, 0), [0, 1, 0, 0]),
    "a quarter to the left": ((0, -ONE, ONE, 0), [0, 0, 1, 0]),
    "transposed": ((0, ONE, ONE, 0), [1, 0, 0, 0]),
    "transposed and turned": ((0, -ONE, -ONE, 0), [0, 0, 0, 1]),
}


@pytest.mark.parametrize(("matrix", "white"), MATRICES.values(), ids=MATRICES)
def test_the_display_matrix_turns_and_mirrors_and_the_result_plays_alike(marked, tmp_path, matrix, white):
    data = marked.read_bytes()
    plain = b"".join(value.to_bytes(4, "big", signed=True) for value in (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30))
    a, b, c, d = matrix
    asked = b"".join(value.to_bytes(4, "big", signed=True) for value in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    track = data.index(b"tkhd")
    place = data.index(plain, track)
    path, target = tmp_path / "turned.mp4", tmp_path / "out.mp4"
    path.write_bytes(data[:place] + asked + data[place + len(plain) :])
    image = next(media.stream_frames(path)).image
    assert image.shape[:2] == ((64, 96) if a else (96, 64))
    assert corners(image) == white
    media.write_video(path, np.zeros(5_120, np.float32), 16_000, target)
    assert corners(next(media.stream_frames(target)).image) == white


def clicks(wave: np.ndarray) -> list[float]:
    """When clicks are heard, in seconds."""
    loud = np.flatnonzero(np.abs(wave) > 0.3) / 16_000
    return [float(time) for i, time in enumerate(loud) if i == 0 or time - loud[i - 1] > 0.2]


def flashes(path: Path) -> list[float]:
    """When white frames are seen, in seconds."""
    return [number / 25 for number, value in enumerate(brightness(path)) if value > 128]


def test_sound_and_picture_stay_together_where_recordings_are_joined(tmp_path):
    """The sound of each part is longer than its picture, by a tenth of a second and more from part to part."""
    flash_and_click(tmp_path / "a.mp4", "libx264", "aac", seconds=2.0)
    part = tmp_path / "a.ts"
    ffmpeg("-i", tmp_path / "a.mp4", "-c:v", "mpeg2video", "-c:a", "mp2", "-af", "apad=pad_dur=0.15", part)
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 4)
    seen, heard = flashes(path), clicks(media.read_audio(path, 16_000))
    assert len(seen) == len(heard) == 4
    np.testing.assert_allclose(heard, seen, atol=0.06)


def test_sound_and_picture_are_cut_at_the_same_place(tmp_path):
    flash_and_click(tmp_path / "a.mp4", "libx264", "aac", seconds=3.0, flash=2.0)
    path = tmp_path / "jump.mkv"
    shift = "gte(T\\,1)*36000/TB"
    ffmpeg("-i", tmp_path / "a.mp4", "-vf", f"setpts=PTS+{shift}", "-af", f"asetpts=PTS+{shift}",
           "-fps_mode", "passthrough", "-c:v", "libx264", "-bf", 0, "-c:a", "pcm_s16le", path)  # fmt: skip
    assert media.stream_frames(path) is not None
    seen, heard = flashes(path), clicks(media.read_audio(path, 16_000))
    assert len(seen) == len(heard) == 1
    assert seen[0] == pytest.approx(2.0, abs=0.05)
    assert heard[0] == pytest.approx(seen[0], abs=0.06)


def test_any_track_can_be_asked_for(tmp_path):
    counting_video(tmp_path / "a.mp4", Fraction(25), 0.4)
    path, target = tmp_path / "two.mkv", tmp_path / "out.mp4"
    ffmpeg("-i", tmp_path / "a.mp4", "-filter_complex", "[0:v]scale=128:96[b]", "-map", "0:v", "-map", "[b]", path)
    for track, height in ((1, 48), (2, 96)):
        stream = media.stream_frames(path, excerpt=media.Excerpt(track))
        assert next(stream).image.shape[0] == media.probe(path, track).height == height
        assert stream.account.notes()[0] == f"video track {track} of 2 was taken"
        media.write_video(path, np.zeros(6_400, np.float32), 16_000, target, excerpt=media.Excerpt(track))
        assert media.probe(target).height == height
    with pytest.raises(MediaError, match="no video track 3"):
        next(media.stream_frames(path, excerpt=media.Excerpt(3)))


def test_a_cover_or_a_still_track_is_not_taken(tmp_path):
    counting_video(tmp_path / "a.mp4", Fraction(25), 0.4)
    ffmpeg("-f", "lavfi", "-i", "color=red:size=320x240:duration=0.04:rate=25", "-frames:v", 1, tmp_path / "still.png")
    path = tmp_path / "b.mkv"
    ffmpeg("-i", tmp_path / "still.png", "-i", tmp_path / "a.mp4", "-map", "0:v", "-map", "1:v", "-c:v:0", "mjpeg",
           "-c:v:1", "copy", "-disposition:v:0", "attached_pic", path)  # fmt: skip
    assert next(media.stream_frames(path)).image.shape == (48, 64, 3)


def test_a_picture_that_stands_still_is_counted(tmp_path):
    times = [i / 25 for i in range(25)] + [2 + i / 25 for i in range(25)]
    counting_video(tmp_path / "a.mkv", Fraction(25), 3.0, times=times)
    stream = media.stream_frames(tmp_path / "a.mkv")
    assert len(list(stream)) == 75
    assert stream.account.still == pytest.approx(1.04, abs=0.01)
    assert stream.account.notes() == ("frames stand still for 1.0 s in all",)
    assert stream.account.lost_share == pytest.approx(1.04 / 3, abs=0.01)


@pytest.mark.parametrize("fps", [Fraction(10), Fraction(24_000, 1001), Fraction(25), Fraction(50), Fraction(60)])
def test_what_the_rate_explains_is_not_mentioned(tmp_path, fps):
    counting_video(tmp_path / "a.mp4", fps, 2.0)
    stream = media.stream_frames(tmp_path / "a.mp4")
    assert len(list(stream)) == 50
    assert stream.account.notes() == ()
    assert stream.account.decoded == round(2 * fps)


def test_a_file_that_is_cut_off_says_where_it_ends(tmp_path):
    counting_video(tmp_path / "a.mkv", Fraction(25), 4.0)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "b.mkv").write_bytes(data[: len(data) // 2])
    stream = media.stream_frames(tmp_path / "b.mkv")
    frames = len(list(stream))
    assert 10 < frames < 70
    assert any(f"the video ends at {frames / 25:.1f} s of 4.0 s" in note for note in stream.account.notes())


def test_sound_far_from_every_picture_means_nothing(tmp_path):
    flash_and_click(tmp_path / "a.mp4", "libx264", "aac", seconds=2.0)
    path = tmp_path / "b.mkv"
    ffmpeg("-i", tmp_path / "a.mp4", "-itsoffset", 40_000, "-i", tmp_path / "a.mp4", "-map", "0:v", "-map", "1:a",
           "-c:v", "copy", "-c:a", "pcm_s16le", path)  # fmt: skip
    wave = media.read_audio(path, 16_000)
    assert len(wave) == pytest.approx(32_000, abs=2_000)
    assert clicks(wave) == pytest.approx([1.0], abs=0.06)


def test_sound_may_change_its_kind_on_the_way(tmp_path):
    """As where a broadcast goes from stereo to mono, here at 48 and 44.1 kHz."""
    flash_and_click(tmp_path / "a.mp4", "libx264", "aac", seconds=2.0)
    for name, options in (("one", ("-ac", 2, "-ar", 48_000)), ("two", ("-ac", 1, "-ar", 44_100))):
        ffmpeg("-i", tmp_path / "a.mp4", "-c:v", "mpeg2video", "-c:a", "mp2", *options, tmp_path / f"{name}.ts")
    path = tmp_path / "joined.ts"
    path.write_bytes((tmp_path / "one.ts").read_bytes() + (tmp_path / "two.ts").read_bytes())
    np.testing.assert_allclose(clicks(media.read_audio(path, 16_000)), flashes(path), atol=0.06)


def test_a_video_of_few_pictures_a_second_is_said_to_be_one(tmp_path):
    counting_video(tmp_path / "a.mp4", Fraction(2), 4.0)
    stream = media.stream_frames(tmp_path / "a.mp4")
    list(stream)
    assert stream.account.notes() == (
        "there are only 2 frames a second, too few to read lips from",
        "frames stand still for 4.0 s in all",
    )


def test_sound_that_lasts_longer_is_no_sign_of_damage(tmp_path):
    flash_and_click(tmp_path / "a.mp4", "libx264", "aac", seconds=2.0)
    for name, order in (("sound late", ("0:v", "1:a")), ("picture late", ("1:v", "0:a"))):
        path = tmp_path / f"{name}.mkv"
        ffmpeg("-i", tmp_path / "a.mp4", "-itsoffset", 30, "-i", tmp_path / "a.mp4", "-map", order[0], "-map", order[1],
               "-c", "copy", path)  # fmt: skip
        stream = media.stream_frames(path)
        assert len(list(stream)) == 50
        assert stream.account.notes() == ()
