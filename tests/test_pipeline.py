import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from makers import counting_video
from test_model import make, tiny

import lipsound2
from lipsound2 import media
from lipsound2.audio import log_mel
from lipsound2.config import audio_22k
from lipsound2.corpora.folder import find_videos
from lipsound2.errors import ConfigError, FaceError, StorageError
from lipsound2.inference.pipeline import Pipeline
from lipsound2.vocoder import GriffinLim


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    config = tiny()
    return Pipeline(make(config), GriffinLim(config.audio, iterations=10))


@pytest.fixture(scope="session")
def video(clips) -> Path:
    return find_videos(clips)[0]


@pytest.fixture(scope="session")
def speech(pipeline, video):
    return pipeline.speak(video)


def test_speech_is_exactly_as_long_as_the_video(speech, video):
    frames = sum(1 for _ in media.stream_frames(video))
    assert len(speech.wave) == frames * 640
    assert speech.mel.shape == (80, frames * 4)
    assert speech.sample_rate == 16_000
    assert speech.gaps == []
    assert [start for start, _ in speech.alignments] == [window.start for window in speech.windows]
    for _, weights in speech.alignments:
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-4)
    (stretch,) = speech.stretches
    assert (stretch.start, stretch.stop, stretch.face) == (0, frames / 25, 1)


def test_the_sound_is_not_used(pipeline, video, tmp_path, speech):
    silent = tmp_path / "silent.mp4"
    with av.open(str(video)) as source, av.open(str(silent), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert media.read_audio(silent, 16_000) is None
    np.testing.assert_array_equal(pipeline.speak(silent).mel, speech.mel)


def test_save_writes_sound_video_and_picture(speech, tmp_path):
    paths = speech.save(tmp_path / "my out", "a name")
    assert [path.name for path in paths] == ["a name.wav", "a name.mp4", "a name.png"]
    wave, rate = soundfile.read(paths[0], dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(wave, speech.wave, atol=1e-4)
    assert media.probe(paths[1]).audio_codec == "aac"
    again = media.read_audio(paths[1], 16_000)[: len(wave)]
    assert np.corrcoef(again, wave[: len(again)])[0, 1] > 0.9
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    with pytest.raises(StorageError, match="exists"):
        speech.save(tmp_path / "my out", "a name")
    speech.save(tmp_path / "my out", "a name", force=True)


def test_the_video_itself_is_never_overwritten(speech, video, tmp_path):
    copy = tmp_path / "clip.mp4"
    copy.write_bytes(video.read_bytes())
    with pytest.raises(StorageError, match="the video itself"):
        replace(speech, source=copy).save(tmp_path, force=True)
    assert copy.read_bytes() == video.read_bytes()


def joined(parts: list[Path | None], target: Path, size: int = 160) -> None:
    """Write videos after each other; None is a second of grey."""
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for part in parts:
            grey = (np.full((size, size, 3), 90, np.uint8) for _ in range(25))
            images = grey if part is None else (frame.image for frame in media.stream_frames(part))
            for image in images:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(size, size, "yuv420p")
                frame.pts = None
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_where_no_face_is_seen_there_is_silence_and_it_is_said(pipeline, video, tmp_path):
    path = tmp_path / "with a gap.mp4"
    joined([video, None, None, video], path)
    length = sum(1 for _ in media.stream_frames(video)) / 25
    speech = pipeline.speak(path)
    ((start, stop),) = speech.gaps
    assert start == pytest.approx(length, abs=0.2)
    assert stop == pytest.approx(length + 2, abs=0.2)
    middle = speech.wave[round((start + 0.3) * 16_000) : round((stop - 0.3) * 16_000)]
    assert np.abs(middle).max() < 1e-3


def test_a_long_video_of_one_clip_repeated_has_no_seam(pipeline, video, tmp_path):
    """Sixty seconds: what is said at a joint of two windows differs no more from the clip than elsewhere."""
    path = tmp_path / "long.mp4"
    seconds = sum(1 for _ in media.stream_frames(video)) / 25
    joined([video] * round(60 / seconds), path)
    speech = pipeline.speak(path)
    steps = np.abs(np.diff(speech.mel, axis=1)).mean(axis=0)
    config = pipeline.model.config
    starts = [window.start for window in speech.windows]
    edges = [4 * e for s in starts for e in (s, s + config.window) if 0 < e < len(speech.wave) // 640]
    at_edges = np.array([steps[edge - 1] for edge in edges])
    assert len(starts) > 20
    assert at_edges.mean() < 1.5 * steps.mean()
    assert at_edges.max() < 1.5 * np.quantile(steps, 0.99)


def test_faces_can_be_listed_and_chosen(pipeline, clips, tmp_path):
    one, two = find_videos(clips)[0], find_videos(clips)[-1]
    path = tmp_path / "two people.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 480, 160, "yuv420p"
        for left, right in zip(media.stream_frames(one), media.stream_frames(two), strict=False):
            image = np.full((160, 480, 3), 128, np.uint8)
            for place, frame in ((0, left), (320, right)):
                picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24").reformat(160, 160, "rgb24")
                image[:, place : place + 160] = picture.to_ndarray()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    tracks = pipeline.track(path).tracks
    assert [track.center[0] < 240 for track in tracks] == [True, False]
    left, right = pipeline.speak(path, "left"), pipeline.speak(path, "right")
    assert np.abs(left.mel - right.mel).mean() > 1e-3
    both = list(pipeline.speak_each(path, "all"))
    np.testing.assert_array_equal(both[0].mel, left.mel)
    np.testing.assert_array_equal(both[1].mel, right.mel)
    np.testing.assert_array_equal(pipeline.speak(path, "2").mel, right.mel)


def test_a_video_without_a_face_is_an_error(pipeline, tmp_path):
    path = tmp_path / "no face.mp4"
    counting_video(path, Fraction(25), 1.0)
    with pytest.raises(FaceError, match="no face found"):
        pipeline.speak(path)


def test_a_vocoder_for_other_mels_is_refused_with_both_named():
    with pytest.raises(ConfigError, match=r"16000 Hz.*22050 Hz"):
        Pipeline(make(tiny()), GriffinLim(audio_22k()))


def test_mel_and_wave_belong_together(speech):
    config = speech.audio
    again = log_mel(torch.from_numpy(speech.wave)[None], config)[0].numpy()
    assert np.corrcoef(again.ravel(), speech.mel.ravel())[0, 1] > 0.8


def test_importing_the_package_is_light():
    code = "import sys, lipsound2; assert 'torch' not in sys.modules; assert lipsound2.load"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "load" in lipsound2.__all__


def test_memory_does_not_grow_with_the_length(tmp_path, clips):
    """Twenty times the video may cost a little more memory, not twenty times as much."""
    video = find_videos(clips)[0]
    script = tmp_path / "speak.py"
    script.write_text(
        "import sys, resource; sys.path.insert(0, sys.argv[2])\n"
        "from test_model import make, tiny\n"
        "from lipsound2.inference.pipeline import Pipeline\n"
        "from lipsound2.vocoder import GriffinLim\n"
        "Pipeline(make(tiny()), GriffinLim(tiny().audio, iterations=2, chunk=200)).speak(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for repeats in (1, 20):
        path = tmp_path / f"{repeats}.mp4"
        joined([video] * repeats, path, 640)
        command = [sys.executable, str(script), str(path), str(Path(__file__).parent)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] - peaks[0] < 100_000
