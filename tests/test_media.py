from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from makers import counting_video, flash_and_click

from lipsound2 import media
from lipsound2.errors import LipSoundError, MediaError, StorageError

CONTAINERS = [
    ("mp4", "libx264", "aac"),
    ("mov", "mpeg4", "pcm_s16le"),
    ("mkv", "libx264", "flac"),
    ("webm", "libvpx-vp9", "libopus"),
    ("avi", "mjpeg", "pcm_s16le"),
    ("mpg", "mpeg1video", "mp2"),
    ("ts", "libx264", "aac"),
]


def flash_time(path: Path) -> float:
    brightness = [frame.image.mean() for frame in media.stream_frames(path)]
    return int(np.argmax(brightness)) / 25


def click_time(path: Path, rate: int = 16_000) -> float:
    wave = media.read_audio(path, rate)
    # The middle of the energy of a click of 5 ms.
    energy = np.square(wave)
    return float((energy * np.arange(len(wave))).sum() / energy.sum() / rate) - 0.0025


@pytest.mark.parametrize(("suffix", "codec", "sound"), CONTAINERS)
def test_click_and_flash_stay_together_in_every_container(tmp_path, suffix, codec, sound):
    path = tmp_path / f"a clip.{suffix}"
    flash_and_click(path, codec, sound)
    assert flash_time(path) == pytest.approx(1.0, abs=0.04)
    assert abs(click_time(path) - flash_time(path)) < 0.04


@pytest.mark.parametrize("fps", [15, 24, Fraction(30000, 1001), 30, 50, 60])
def test_any_frame_rate_becomes_25_by_time_stamps(tmp_path, fps):
    path = tmp_path / "clip.mp4"
    counting_video(path, Fraction(fps), 2.0)
    frames = list(media.stream_frames(path))
    assert [frame.number for frame in frames] == list(range(50))
    times = np.array([(frame.image.mean() - 20) / 200 * 2 for frame in frames])
    assert np.abs(times - np.arange(50) / 25).max() < 0.5 / float(fps) + 0.02


def test_variable_frame_rate_follows_the_stamps(tmp_path):
    path = tmp_path / "clip.mkv"
    times = [*np.arange(0, 1, 1 / 60), *np.arange(1, 2, 1 / 10)]
    counting_video(path, Fraction(60), 2.0, times=times)
    frames = list(media.stream_frames(path))
    seen = np.array([(frame.image.mean() - 20) / 200 * 2 for frame in frames])
    assert len(frames) == 48
    assert np.abs(seen - np.arange(len(frames)) / 25).max() < 0.07


def test_sound_that_starts_late_is_padded(tmp_path):
    path = tmp_path / "late.mkv"
    flash_and_click(path, "libx264", "flac", sound_start=0.5)
    assert abs(click_time(path) - flash_time(path)) < 0.04
    wave = media.read_audio(path, 16_000)
    assert not wave[:7900].any()


def turned(folder: Path) -> Path:
    """Write a video whose left half is white and whose meta data say that it is to be turned."""
    flat, path = folder / "flat.mp4", folder / "turned.mp4"
    with av.open(str(flat), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        image = np.zeros((48, 64, 3), np.uint8)
        image[:, :32] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(flat)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return path


def test_rotation_is_undone_and_kept_when_copied(tmp_path):
    path, copy = turned(tmp_path), tmp_path / "copy.mp4"
    media.write_video(path, np.zeros(640, np.float32), 16_000, copy)
    for video in (path, copy):
        upright = next(media.stream_frames(video)).image
        assert upright.shape == (64, 48, 3)
        # Turned a quarter counter-clockwise, what was left is now at the bottom.
        assert upright[48:].mean() > 200
        assert upright[:16].mean() < 50


def test_non_square_pixels_are_made_square(tmp_path):
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 48, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert next(media.stream_frames(path)).image.shape == (48, 96, 3)


def test_video_without_sound(tmp_path):
    path = tmp_path / "silent.mp4"
    counting_video(path, Fraction(25), 0.4)
    assert media.read_audio(path, 16_000) is None
    assert media.probe(path).audio_codec is None


def test_stereo_is_averaged_and_never_louder(tmp_path):
    path = tmp_path / "stereo.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="stereo")
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.full((1, 8000), 32767, np.int16), format="s16", layout="stereo")
        frame.sample_rate = 16_000
        container.mux(sound.encode(frame))
    assert np.abs(media.read_audio(path, 16_000)).max() == pytest.approx(1.0, abs=1e-3)


def test_write_video_keeps_picture_and_sound_together(tmp_path):
    for suffix, codec, sound in CONTAINERS:
        source, target = tmp_path / f"in.{suffix}", tmp_path / f"out {suffix}.mp4"
        flash_and_click(source, codec, sound)
        wave = media.read_audio(source, 16_000)
        media.write_video(source, wave, 16_000, target)
        assert abs(click_time(target) - flash_time(target)) < 0.04, suffix
        assert media.probe(target).audio_codec == "aac"


def test_write_video_of_odd_size(tmp_path):
    source, target = tmp_path / "in.avi", tmp_path / "out.mp4"
    flash_and_click(source, "mjpeg", "pcm_s16le", size=(63, 47))
    media.write_video(source, np.zeros(32_000, np.float32), 16_000, target)
    assert (media.probe(target).width, media.probe(target).height) == (64, 48)


def test_write_wav_reads_back(tmp_path):
    path = tmp_path / "deep" / "a.wav"
    wave = np.linspace(-1.5, 1.5, 1000, dtype=np.float32)
    media.write_wav(path, wave, 16_000)
    back, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    assert np.abs(back - wave.clip(-1, 1)).max() < 1e-4


def bad_files(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.mp4"
    flash_and_click(whole, "libx264", "aac")
    files = {
        "no such file": folder / "missing.mp4",
        "is a folder": folder,
        "is empty": folder / "empty.mp4",
        "not a media file": folder / "text.mp4",
        "not a media file ": folder / "truncated.mp4",
        "no video, only audio": folder / "sound.wav",
    }
    files["is empty"].touch()
    files["not a media file"].write_text("this is no video\n" * 100)
    # Within the pictures: the table of contents lies behind them.
    files["not a media file "].write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    soundfile.write(files["no video, only audio"], np.zeros(16_000), 16_000)
    return files


def test_each_bad_file_has_its_own_message(tmp_path):
    for message, path in bad_files(tmp_path).items():
        with pytest.raises(MediaError, match=message.strip()):
            list(media.stream_frames(path))


def test_a_damaged_middle_costs_only_itself(tmp_path):
    path = tmp_path / "clip.ts"
    flash_and_click(path, "libx264", "aac", size=(320, 240))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1000] = bytes(1000)
    path.write_bytes(data)
    assert len(list(media.stream_frames(path))) >= 40


def test_full_disk_is_one_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left on device"):
        media.write_wav(tmp_path / "a.wav", np.zeros(10, np.float32), 16_000)
    assert list(tmp_path.iterdir()) == []


def test_errors_carry_their_hint_across_processes():
    import pickle

    error = pickle.loads(pickle.dumps(LipSoundError("what", "do this")))
    assert (error.message, error.hint) == ("what", "do this")


@pytest.mark.parametrize(("suffix", "codec", "sound"), CONTAINERS)
@pytest.mark.parametrize("span", [(0.48, 1.48), (0.0, 1.2), (0.92, 2.0)])
def test_a_part_of_a_file_is_what_the_whole_shows_there(tmp_path, suffix, codec, sound, span):
    path = tmp_path / f"clip.{suffix}"
    flash_and_click(path, codec, sound)
    whole = [frame.image.mean() for frame in media.stream_frames(path)]
    part = list(media.stream_frames(path, excerpt=media.Excerpt(start=span[0], end=span[1])))
    first, last = (round(second * 25) for second in span)
    assert [frame.number for frame in part] == list(range(len(part)))
    assert len(part) == min(last, len(whole)) - first
    assert np.abs(np.array([frame.image.mean() for frame in part]) - whole[first:last]).max() < 2
    wave, cut = (
        media.read_audio(path, 16_000),
        media.read_audio(path, 16_000, media.Excerpt(start=span[0], end=span[1])),
    )
    lit = round(1.0 * 16_000)
    here = lit - first * 640
    loudest = int(np.argmax(np.abs(cut)))
    assert abs(loudest - here) < 16_000 * 0.03
    assert abs(len(cut) / 16_000 - (span[1] - span[0])) < 0.1
    assert np.abs(wave).max() == pytest.approx(np.abs(cut).max(), rel=0.3)
