"""Segments of long recordings and audio in files of its own, prepared."""

import av
import numpy as np
import pytest

from lipsound2 import faces
from lipsound2.corpora import Clip, read_folder
from lipsound2.data.recording import make_samples
from lipsound2.data.sample import Sample, SampleConfig, decode_crops, decode_wave
from lipsound2.media import Excerpt, read_audio, write_wav


@pytest.fixture(scope="module")
def detector():
    return faces.MtcnnDetector()


@pytest.fixture(scope="module")
def first(clips) -> Clip:
    return next(iter(read_folder(clips)))


def make_sample(clip: Clip, detector: faces.Detector, config: SampleConfig) -> Sample:
    """Make the one sample of a clip."""
    (sample,) = make_samples(clip, detector, config)
    return sample


def side_by_side(left, right, path) -> None:
    """Film two clips of one size beside each other, with the audio of the left one as a file of its own."""
    with av.open(str(path), "w") as target, av.open(str(left)) as one, av.open(str(right)) as two:
        stream = target.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.pix_fmt = "yuv420p"
        for a, b in zip(one.decode(video=0), two.decode(video=0), strict=False):
            image = np.concatenate([a.to_ndarray(format="rgb24"), b.to_ndarray(format="rgb24")], axis=1)
            if not stream.codec_context.is_open:
                stream.height, stream.width = image.shape[:2]
            target.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        target.mux(stream.encode(None))
    write_wav(path.with_suffix(".wav"), read_audio(left, 16_000), 16_000)


def test_a_segment_is_that_part_of_the_sample_of_the_whole(first, detector):
    whole = make_sample(first, detector, SampleConfig())
    clip = Clip("part", first.video, "ann", "train", excerpt=Excerpt(start=0.4, end=1.6))
    part = make_sample(clip, detector, SampleConfig())
    assert part.meta["frames"] == 30
    crops, wave = decode_crops(whole.files["mp4"]), decode_wave(whole.files["flac"])
    here, heard = decode_crops(part.files["mp4"]), decode_wave(part.files["flac"])
    assert np.abs(here[5:25].astype(int) - crops[15:35].astype(int)).mean() < 4
    assert len(heard) == 30 * 640
    assert np.corrcoef(heard, wave[10 * 640 : 40 * 640])[0, 1] > 0.99


def test_the_face_that_is_pointed_at_and_audio_from_its_own_file(clips, detector, tmp_path):
    left, right = next(iter(clips.glob("sim01/*.mp4"))), next(iter(clips.glob("sim02/*.mp4")))
    video = tmp_path / "both.mp4"
    side_by_side(left, right, video)

    def crops(x):
        clip = Clip("x", video, "ann", "train", audio=video.with_suffix(".wav"), face=(x, 0.5))
        sample = make_sample(clip, detector, SampleConfig(max_mismatch=2.0))
        return decode_crops(sample.files["mp4"])[10].astype(int), decode_wave(sample.files["flac"])

    one, wave = crops(0.25)
    other, _ = crops(0.75)
    assert np.abs(one - other).mean() > 15
    alone = decode_crops(make_sample(Clip("l", left, "ann", "train"), detector, SampleConfig()).files["mp4"])[10]
    assert np.abs(one - alone.astype(int)).mean() < 8
    assert np.abs(wave).max() > 0.05
