import subprocess
import sys
import threading
import time
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_face_follower import IMAGE, Script
from test_model import make, tiny

from lipsound2 import media
from lipsound2.audio import griffin_lim, log_mel
from lipsound2.config import FrameDecoderConfig, audio_16k
from lipsound2.errors import ConfigError, MediaError, StorageError
from lipsound2.faces import Face
from lipsound2.inference.pipeline import Pipeline
from lipsound2.inference.windows import generate
from lipsound2.live.camera import Camera, filming
from lipsound2.live.captions import Captions, settled_until
from lipsound2.live.lips import Brightness, LipStream, Piece
from lipsound2.live.loudspeaker import opened, to_bytes
from lipsound2.live.session import Account, Pace, Session
from lipsound2.live.sound import SpeechStream
from lipsound2.packs import find_pack
from lipsound2.text.alphabet import Transcript, Word
from lipsound2.vocoder import GriffinLim
from lipsound2.vocoder.choose import choose_vocoder

EXAMPLE = Path(__file__).parents[1] / "examples" / "bgal7s.mp4"


def video(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (1, frames, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def stream(lips: LipStream, views: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    pieces = [lips.push(part).settled for part in views.split(sizes, dim=1)]
    return torch.cat([*pieces, lips.finish().settled], dim=1)


@pytest.mark.parametrize("decoder", [None, FrameDecoderConfig()])
def test_a_clip_that_is_waited_for_whole_is_the_same_as_in_one_piece(decoder):
    config = tiny() if decoder is None else replace(tiny(), decoder=decoder)
    model, views = make(config), video(25)
    lips = LipStream(model, ahead=25)
    # Brightness is that of what was seen so far; here it is made to know all from the first frame on.
    lips._brightness(views)
    mel = stream(lips, views, [25])
    assert torch.allclose(mel, generate(model, views.unbind(1), 25).mel, atol=1e-3)


def test_features_that_are_kept_are_those_of_the_whole():
    model, views = make(tiny()), video(28)
    lips = LipStream(model, ahead=5)
    lips._brightness = lambda part, again=0: part.float() / 100
    with torch.inference_mode():
        stream(lips, views, [4, 1, 9, 2, 12])
        whole = model.encoder.features(views[None].float() / 100, torch.tensor([28]))[0]
    assert lips._features.shape == whole.shape
    assert torch.allclose(lips._features, whole, atol=1e-4)


@pytest.mark.parametrize("sizes", [[1] * 97, [3] * 32 + [1], [97], [40, 57], [2, 90, 5]])
def test_mel_is_as_long_as_the_video_however_it_comes(sizes):
    model, views = make(tiny()), video(97)
    lips = LipStream(model, ahead=6)
    mel = stream(lips, views, sizes)
    assert mel.shape == (80, 4 * 97)
    assert torch.isfinite(mel).all()
    assert len(lips._decodings) <= 2
    assert len(lips._features) <= model.config.window + 97 - sizes[0] + max(sizes)


def test_what_is_held_does_not_grow():
    lips = LipStream(make(tiny()), ahead=6)
    held = []
    for number in range(150):
        lips.push(video(3, number))
        held.append((len(lips._features), len(lips._decodings), lips._recent.shape[1]))
    assert max(held[60:]) <= max(held[:60])


def test_sound_does_not_depend_on_the_seams_between_decodings():
    """Where one decoding fades into the next, mel changes no more from frame to frame than elsewhere."""
    mel = stream(LipStream(make(tiny()), ahead=8), video(120), [3] * 40)
    steps = mel.diff(dim=1).abs().mean(0)
    edges = [4 * frame for start in (20, 40, 60, 80) for frame in (start, start + 10)]
    assert steps[[edge - 1 for edge in edges]].mean() < 1.5 * steps.mean()


def test_brightness_is_that_of_the_clip_and_forgets():
    views = video(10)
    scaled = Brightness(10**6)(views)
    assert abs(float(scaled.mean())) < 1e-4
    assert abs(float(scaled.std()) - 1) < 1e-3
    forgetting = Brightness(16 * 16 * 4)
    for _ in range(40):
        forgetting(torch.full((1, 1, 16, 16), 200, dtype=torch.uint8))
    assert float(forgetting(torch.full((1, 1, 16, 16), 200, dtype=torch.uint8)).abs().max()) < 1e-3


def spoken_mel() -> tuple[torch.Tensor, torch.Tensor]:
    sound = torch.from_numpy(media.read_audio(EXAMPLE, 16_000))
    return log_mel(sound[None], audio_16k())[0], sound


def test_sound_has_no_seams():
    mel, _ = spoken_mel()
    mel = mel[:, :160]
    audio, sound = audio_16k(), SpeechStream(audio_16k())
    pieces = []
    for start in range(0, 160, 12):
        pieces.append(sound.push(Piece(mel[:, start : start + 12], mel[:, start + 12 : start + 24])))
        assert len(pieces[-1]) == 160 * min(12, 160 - start)
    made = torch.cat(pieces)
    borders = np.cumsum([len(piece) for piece in pieces])[:-1]
    jumps = made.diff().abs()
    around = torch.stack([jumps[border - 40 : border + 40].max() for border in borders])
    assert (jumps[borders - 1] <= around).all()
    assert jumps[borders - 1].mean() < 2 * jumps.mean()
    whole = griffin_lim(mel[None], audio)[0]
    error, usual = ((log_mel(each[None], audio)[0] - mel).abs().mean() for each in (made, whole))
    assert error < 1.25 * usual, "nearly as close to its mel as in one piece"


def test_silence_is_faded_into():
    mel, _ = spoken_mel()
    sound = SpeechStream(audio_16k())
    sound.push(Piece(mel[:, 40:52], mel[:, 52:64]))
    rest = sound.rest(12)
    assert len(rest) == 12 * 160
    assert rest[: 3 * 160].abs().max() > 0
    assert rest[4 * 160 :].abs().max() == 0
    assert sound.rest(4).abs().max() == 0


def test_a_camera_delivers_frames_at_the_rate_of_the_pack():
    camera = Camera(25, most=100)
    for number in range(60):
        camera.put(10 + number / 30, IMAGE)
    camera.put(10 + 60 / 30 + 0.2, IMAGE)
    camera.end()
    shots = camera.take(1)
    assert len(shots) == 50 + 1 + 5
    assert camera.repeated == 5
    assert camera.take(1) == []


def test_a_long_gap_and_a_clock_that_starts_again_are_left_out():
    camera = Camera(25)
    for stamp in (0.0, 0.04, 100.0, 100.04, 3.0, 3.04):
        camera.put(stamp, IMAGE)
    camera.end()
    assert len(camera.take(1)) == 6
    assert camera.repeated == 0


def test_frames_that_wait_too_long_are_dropped_and_counted():
    camera = Camera(25, most=10)
    for number in range(25):
        camera.put(number / 25, IMAGE, seen=float(number))
    assert [shot.time for shot in camera.take(3)] == list(range(15, 25))
    assert camera.dropped == 15


def test_a_file_that_is_not_played_in_time_waits_for_room(clips):
    path = next(clips.rglob("*.mp4"))
    with filming(str(path), Camera(25, most=5, patient=True)) as camera:
        taken = 0
        while shots := camera.take(3):
            taken += len(shots)
            time.sleep(0.01)
    assert taken == sum(1 for _ in media.stream_frames(path, 25))
    assert camera.dropped == 0


def test_a_file_is_played_in_its_time(tmp_path):
    from makers import flash_and_click

    flash_and_click(tmp_path / "clip.mp4", "libx264", "aac", seconds=0.6, flash=0.2)
    began = time.monotonic()
    with filming(str(tmp_path / "clip.mp4"), Camera(25)) as camera:
        shots = camera.take(100)
    assert 0.5 < time.monotonic() - began < 3
    assert len(shots) == 15
    assert shots[-1].time - shots[0].time > 0.45


def test_no_camera_and_no_file_are_one_line():
    for source in ("nothing.mp4", "97"):
        with pytest.raises(MediaError), filming(source, Camera(25)):
            pass


def test_frames_that_are_seen_again_take_the_place_of_what_they_were():
    model, views = make(tiny()), video(30)
    plain, again = LipStream(model, ahead=6), LipStream(model, ahead=6)
    plain._brightness = again._brightness = lambda part, again=0: part.float() / 100
    with torch.inference_mode():
        for start in range(0, 30, 5):
            wrong = views[:, start : start + 5].flip(1)
            plain.push(views[:, start : start + 5])
            again.push(torch.cat([views[:, max(0, start - 5) : start], wrong], dim=1), again=min(start, 5))
        again.push(views[:, 24:30], again=6)
        plain.push(views[:, 29:30], again=1)
    assert again.seen == plain.seen == 30
    assert torch.allclose(again._features, plain._features, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "seconds", "wanted"),
    [
        ([], 0.5, 0.0),
        ([], 3.0, 2.0),
        ([(0.2, 0.5)], 0.9, 0.0),
        ([(0.2, 0.5)], 1.3, 0.9),
        ([(0.2, 0.5), (0.6, 0.9), (1.7, 2.0)], 2.2, 1.3),
        ([(0.5 * n, 0.5 * n + 0.4) for n in range(13)], 6.5, 5.4),
    ],
)
def test_words_are_settled_at_pauses_or_after_long(words, seconds, wanted):
    found = tuple(Word("word", start, end, 1.0) for start, end in words)
    assert settled_until(found, seconds) == pytest.approx(wanted)


class Counter:
    """Reads each stretch of ones as a word."""

    name, sample_rate = "counter", 8000

    def transcribe(self, samples):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], samples > 0.5, [0]]).astype(int)))
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return Transcript(tuple(Word("one", a / 8000, b / 8000, 1.0) for a, b in pairs))


def test_each_word_is_settled_once_and_at_its_time():
    shown = []
    captions = Captions(Counter(), 8000, shown.append)
    starts = [1.0, 1.5, 4.0, 7.2, 9.9]
    sound = np.zeros(80_000, np.float32)
    for start in starts:
        sound[round(start * 8000) : round((start + 0.3) * 8000)] = 1
    for piece in np.array_split(sound, 100):
        captions.push(piece)
        time.sleep(0.002)
    captions.finish()
    settled = [word for caption in shown for word in caption.settled]
    assert [round(word.start, 2) for word in settled] == starts
    assert not any(caption.open for caption in shown[-1:])


def test_an_error_of_the_recognizer_is_raised_where_the_session_ends():
    class Broken(Counter):
        def transcribe(self, samples):
            raise MediaError("broken")

    captions = Captions(Broken(), 8000, lambda _: None)
    captions.push(np.zeros(8000, np.float32))
    with pytest.raises(MediaError, match="broken"):
        captions.finish()


def test_a_session_is_silent_without_a_face_and_as_long_as_its_frames():
    config = tiny()
    face = Face(np.array([10.0, 5, 40, 45]), 1.0)
    detector = Script([], [face])
    heard = []
    pipeline = Pipeline(make(config), GriffinLim(config.audio), detector)
    session = Session(pipeline, Pace(2, 6), lambda samples, seen: heard.append((samples, seen)))
    camera = Camera(25, most=60, patient=True)
    for number in range(40):
        camera.put(number / 25, IMAGE, seen=float(number))
    camera.end()
    account = session.run(camera)
    sound = np.concatenate([samples for samples, _ in heard])
    assert len(sound) == 40 * 640
    assert 20 <= account.faces < 40
    assert np.abs(sound[: 640 * (40 - account.faces)]).max() == 0
    assert np.abs(sound[640 * (40 - account.faces) :]).max() > 0
    lengths = np.cumsum([0, *(len(samples) for samples, _ in heard)])[:-1] // 640
    assert [seen for _, seen in heard] == list(lengths), "each piece is stamped with its first frame"
    assert account.facts()["frames"] == 40


def test_live_refuses_a_vocoder_that_cannot():
    pack = find_pack("grid-s1")
    model = pack.load_model()
    slow = choose_vocoder("waveglow", model.config.audio, pack.waveglow)
    with pytest.raises(ConfigError, match="live"):
        Session(Pipeline(model, slow, Script([])), Pace(), lambda *_: None)


def test_a_loudspeaker_plays_while_others_compute(monkeypatch):
    class Stream:
        def __init__(self, rate, *, callback, **_):
            self.callback, self.played = callback, bytearray()

        def __enter__(self):
            def play():
                while not self.ended.wait(0.005):
                    out = bytearray(160)
                    self.callback(memoryview(out), 80, None, None)
                    self.played += out

            self.ended = threading.Event()
            self.thread = threading.Thread(target=play)
            self.thread.start()
            streams.append(self)

        def __exit__(self, *_):
            self.ended.set()
            self.thread.join()

    streams = []
    fake = SimpleNamespace(RawOutputStream=Stream, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    sound = np.linspace(0.1, 1, 1600, dtype=np.float32)
    with opened(None, 16_000) as hear:
        began = time.monotonic()
        hear(sound, 0.0)
        assert time.monotonic() - began < 0.05, "0.1 s of sound are not waited for"
    assert to_bytes(sound) in bytes(streams[0].played)


@pytest.mark.parametrize(
    ("hop", "ahead", "limit"), [(0, 5, 1.0), (26, 5, 1.0), (3, 0, 1.0), (3, 51, 1.0), (3, 5, 0.0), (3, 5, 11.0)]
)
def test_a_pace_out_of_range_is_refused(hop, ahead, limit):
    with pytest.raises(ConfigError):
        Pace(hop, ahead, limit)


def test_an_account_of_an_hour_is_no_larger_than_that_of_minutes():
    account = Account()
    for number in range(20_000):
        account.note(0.5 + number % 2, 0.1)
    assert len(account.delays) <= 5000
    assert account.facts()["hops"] == 20_000
    assert account.facts()["delay_95"] == 1.5


def test_a_wav_file_is_whole_at_any_moment_and_never_overwritten(tmp_path):
    path = tmp_path / "out" / "live.wav"
    with opened(str(path), 16_000) as hear:
        for count in (1, 2):
            hear(np.full(1600, 0.5, np.float32), 0.0)
            with wave.open(str(path)) as read:
                assert read.getnframes() == 1600 * count
    with pytest.raises(StorageError), opened(str(path), 16_000):
        pass
    with opened(str(path), 16_000, force=True):
        pass
    with pytest.raises(ConfigError), opened(str(tmp_path / "live.mp3"), 16_000):
        pass


def test_the_command_speaks_and_captions_a_file(tmp_path):
    command = [sys.executable, "-m", "lipsound2", "live", str(EXAMPLE), "--at-once"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "live.wav")], capture_output=True, text=True, timeout=120, check=True
    )
    words, told = " ".join(done.stdout.split("\n")[:-2]), done.stderr
    assert words.split()[-1] == "soon"  # a busy machine sees less at once, so that earlier words may be others
    assert "lips to sound" in told
    assert "0 frames dropped" in told
    with wave.open(str(tmp_path / "live.wav")) as read:
        assert read.getnframes() == 56 * 640
    piped = subprocess.run([*command, "-o", "-", "--no-captions"], capture_output=True, timeout=120, check=True)
    assert len(piped.stdout) == 56 * 640 * 2
