import numpy as np
import pytest

from lipsound2.media import probe, read_audio, stream_frames
from lipsound2.simulate.film import write_film
from lipsound2.simulate.lens import Lens, record

RATE, FPS, FRAMES = 16_000, 25, 40
LIT = (10, 30)


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return [np.full((64, 64, 3), 240 if index in LIT else 16, np.uint8) for index in range(FRAMES)]


def test_a_flash_and_a_click_meet(tmp_path, pictures):
    wave = np.zeros(FRAMES * RATE // FPS, np.float32)
    for index in LIT:
        start = index * RATE // FPS
        wave[start : start + 320] = 0.8 * np.sin(np.arange(320) * 2 * np.pi / 16)
    path = tmp_path / "clip.mp4"
    write_film(path, pictures, FPS, wave, RATE, crf=23)
    heard = read_audio(path, RATE)
    seen = [frame.image.mean() for frame in stream_frames(path, FPS)]
    assert len(seen) == FRAMES
    assert [index for index, light in enumerate(seen) if light > 128] == list(LIT)
    assert np.correlate(heard[: len(wave)], wave, "full").argmax() == len(wave) - 1
    assert probe(path).sample_rate == RATE
    assert np.corrcoef(heard[: len(wave)], wave)[0, 1] > 0.99


def test_the_same_pictures_make_the_same_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 40, 3), dtype=np.uint8)
    pictures = [np.repeat(np.repeat(picture, 4, axis=0), 4, axis=1) for picture in noise]
    files = set()
    for attempt in range(4):
        path = tmp_path / f"{attempt}.mp4"
        write_film(path, pictures, FPS, np.zeros(30 * 640, np.float32), RATE, crf=22)
        files.add(path.read_bytes())
    assert len(files) == 1


def test_a_silent_clip_has_no_sound_track(tmp_path, pictures):
    path = tmp_path / "clip.mp4"
    write_film(path, pictures, FPS, np.zeros(0, np.float32), RATE, crf=23)
    assert read_audio(path, RATE) is None
    assert probe(path).video_codec == "h264"


def test_a_clip_that_breaks_off_leaves_nothing_behind(tmp_path, pictures):
    def interrupted():
        yield from pictures[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(tmp_path / "clip.mp4", interrupted(), FPS, np.zeros(3200, np.float32), RATE, crf=23)
    assert list(tmp_path.iterdir()) == []


def test_a_perfect_lens_only_encodes():
    light = np.full((8, 8, 3), 0.2158605, np.float32)
    perfect = Lens(blur=0.0, noise=0.0)
    assert (record(light, perfect, np.random.default_rng(0)) == 128).all()


def test_noise_blur_and_exposure_show():
    rng = np.random.default_rng(0)
    light = np.full((64, 64, 3), 0.2, np.float32)
    light[:, 32:] = 0.6
    plain = record(light, Lens(blur=0.0, noise=0.0), rng).astype(float)
    assert record(light, Lens(blur=0.0, noise=0.05), rng).std() > plain.std()
    assert np.abs(np.diff(record(light, Lens(blur=3.0, noise=0.0), rng).astype(float), axis=1)).max() < 20
    assert record(light, Lens(exposure=1.3, blur=0.0, noise=0.0), rng).mean() > plain.mean() + 5
    corner = record(light, Lens(vignette=0.5, blur=0.0, noise=0.0), rng)
    assert corner[0, 0, 0] < corner[32, 16, 0]
