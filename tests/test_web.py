import io
import json
import struct
import threading
import time
import wave
import zipfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from served import VIDEO, served
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lipsound2 import media
from lipsound2.config import audio_16k
from lipsound2.errors import ConfigError, MediaError
from lipsound2.faces import FaceTrack, Tracking
from lipsound2.inference.pipeline import Pipeline, Sighting
from lipsound2.inference.speech import Speech
from lipsound2.text.alphabet import Transcript, Word
from lipsound2.web.limits import Limits
from lipsound2.web.live import read_frame
from lipsound2.web.models import Loaded, Models
from lipsound2.web.names import shown, stem
from lipsound2.web.orders import FullError, Orders, State
from lipsound2.web.serving import Address, url

SECONDS = 0.4
EXAMPLE = Path(__file__).parents[1] / "examples" / "bgal7s-silent.mp4"


class Actor(Pipeline):
    """Stands in for a pipeline: finds as many faces as it is told, and speaks at once."""

    name, knows, familiarity = "grid-s1", "one man", None
    model = SimpleNamespace(config=SimpleNamespace(video=SimpleNamespace(fps=25)))

    def __init__(self, faces: int = 1) -> None:
        self.faces = faces
        self.spoken: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def look(self, source, progress):
        count = sum(1 for _ in media.stream_frames(source, 25))
        tracks = [
            FaceTrack(0, np.tile([4.0 + 9 * n, 4, 12 + 9 * n, 14], (count, 1)), np.zeros((count, 5, 2)))
            for n in range(self.faces)
        ]
        return Sighting(Tracking(count, tracks), media.PictureAccount(decoded=count))

    def speak_each(self, source, face, report, sighting):
        self.go.wait(20)
        report("reading lips", 1.0)
        self.spoken.append(face)
        audio = audio_16k()
        frames = round(SECONDS * 100)
        mel = np.zeros((audio.n_mels, frames), np.float32)
        sound = np.full(round(SECONDS * audio.sample_rate), 0.25, np.float32)
        yield Speech(source, sound, mel, mel, [], [], audio, 25, notes=("a note <b>",))


class Reader:
    name, sample_rate = "jasper", 16_000

    def transcribe(self, _):
        return Transcript((Word("place", 0.0, 0.2, 0.9), Word("red", 0.2, 0.4, 0.4)))


def acted(actor: Actor, reader: Reader | None = None) -> Models:
    return Models("grid-s1", loader=lambda *_: Loaded(actor, reader))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    from makers import flash_and_click

    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    flash_and_click(path, "libx264", "aac", seconds=SECONDS, flash=0.2)
    return path.read_bytes()


def test_a_video_becomes_files_and_words(tmp_path, clip):
    with served(tmp_path / "root", acted(Actor(), Reader())) as server:
        status, order = server.json("POST", "/api/videos?name=my%20clip.mp4", clip, VIDEO)
        assert status == 201
        told = server.follow(order["id"], "done", "failed")
        assert told["state"] == "done", told
        result = told["result"]
        assert result["text"] == "place red"
        assert [word["confidence"] for word in result["words"]] == [0.9, 0.4]
        assert result["notes"] == ["a note <b>"]
        assert result["seconds"] == SECONDS
        names = ["face1.jpg", *(f"speech.{each}" for each in ("json", "mp4", "png", "srt", "txt", "vtt", "wav", "zip"))]
        assert told["files"] == names
        got = {name: server.ask("GET", f"/api/videos/{order['id']}/files/{name}") for name in names}
        assert all(answer.status == 200 for answer in got.values())
        with wave.open(io.BytesIO(got["speech.wav"].content)) as sound:
            assert sound.getnframes() == SECONDS * 16_000
        assert got["speech.vtt"].content.startswith(b"WEBVTT")
        assert json.loads(got["speech.json"].content)["source"] == "my clip.mp4", "no path of the server"
        with zipfile.ZipFile(io.BytesIO(got["speech.zip"].content)) as archive:
            assert {name.removeprefix("speech/") for name in archive.namelist()} == set(names[1:-1])
        part = server.ask("GET", f"/api/videos/{order['id']}/files/speech.mp4", headers={"Range": "bytes=4-7"})
        assert (part.status, part.content) == (206, b"ftyp")
        kept = server.ask("GET", f"/api/videos/{order['id']}/files/speech.wav?save")
        assert "my%20clip.wav" in kept.headers["content-disposition"]
        assert server.ask("DELETE", f"/api/videos/{order['id']}").status == 204
        assert list(server.root.iterdir()) == []
        assert server.json("GET", f"/api/videos/{order['id']}")[0] == 404


def test_one_of_several_faces_is_chosen_and_a_stranger_cannot_choose(tmp_path, clip):
    actor = Actor(faces=2)
    with served(tmp_path / "root", acted(actor)) as server:
        order = server.json("POST", "/api/videos?name=two.mp4", clip, VIDEO)[1]
        told = server.follow(order["id"], "choosing", "failed")
        assert [each["face"] for each in told["faces"]] == [1, 2]
        assert server.ask("GET", f"/api/videos/{order['id']}/files/face2.jpg").content[:2] == b"\xff\xd8"
        for wrong in (b"{}", b"[]", b'{"face": 3}', b'{"face": "2"}', b'{"face": true}', b"{", b"[" * 900):
            assert server.ask("POST", f"/api/videos/{order['id']}/face", wrong).status == 400, wrong
        assert server.ask("POST", f"/api/videos/{order['id']}/face", b" " * 2000).status == 413
        assert server.json("POST", f"/api/videos/{order['id']}/face", b'{"face": 2}')[0] == 200
        assert server.follow(order["id"], "done")["result"]["face"] == 2
        assert actor.spoken == ["2"]
        assert server.ask("POST", f"/api/videos/{order['id']}/face", b'{"face": 1}').status == 409


def test_a_broken_video_fails_alone_and_says_no_path(tmp_path, clip):
    with served(tmp_path / "root", acted(Actor())) as server:
        broken = server.json("POST", "/api/videos?name=broken.mp4", clip[:300], VIDEO)[1]
        whole = server.json("POST", "/api/videos?name=whole.mp4", clip, VIDEO)[1]
        told = server.follow(broken["id"], "failed")
        assert "broken.mp4" in told["error"]
        assert str(tmp_path) not in json.dumps(told)
        server.follow(whole["id"], "done")


def test_several_wait_in_a_bounded_queue_and_see_their_place(tmp_path, clip):
    actor = Actor()
    actor.go.clear()
    with served(tmp_path / "root", acted(actor), Limits(waiting=2)) as server:
        first = server.json("POST", "/api/videos", clip, VIDEO)[1]
        server.follow(first["id"], "speaking")
        second, third = (server.json("POST", "/api/videos", clip, VIDEO)[1] for _ in range(2))
        assert [server.json("GET", f"/api/videos/{each['id']}")[1]["place"] for each in (second, third)] == [2, 3]
        status, told = server.json("POST", "/api/videos", clip, VIDEO)
        assert (status, told["hint"]) == (503, "try again in some minutes")
        server.ask("DELETE", f"/api/videos/{second['id']}")
        assert server.json("GET", f"/api/videos/{third['id']}")[1]["place"] == 2
        actor.go.set()
        server.follow(third["id"], "done")


def test_deleting_a_video_ends_the_work_on_it(tmp_path, clip):
    actor = Actor()
    actor.go.clear()
    with served(tmp_path / "root", acted(actor)) as server:
        order = server.json("POST", "/api/videos", clip, VIDEO)[1]
        server.follow(order["id"], "speaking")
        server.ask("DELETE", f"/api/videos/{order['id']}")
        actor.go.set()
        following = server.json("POST", "/api/videos", clip, VIDEO)[1]
        server.follow(following["id"], "done")
        assert actor.spoken == ["1"], "the first ended before it spoke"
        assert len(list(server.root.iterdir())) == 1


def test_what_nobody_touched_for_long_is_deleted(tmp_path):
    orders = Orders(tmp_path, Limits(keep=10.0))
    old, busy = (orders.open("a", "p", "v", 1) for _ in range(2))
    old.enter(State.done)
    orders.enqueue(busy)
    assert orders.sweep(time.monotonic() + 5) == 0
    assert orders.sweep(time.monotonic() + 11) == 1
    assert orders.find(old.id) is None
    assert [path.name for path in tmp_path.iterdir()] == [busy.folder.name]


def test_what_is_kept_is_bounded_and_ids_cannot_be_guessed(tmp_path):
    orders = Orders(tmp_path, Limits(total=100, orders=3))
    first = orders.open("a", "p", "v", 60)
    with pytest.raises(FullError):
        orders.open("b", "p", "v", 60)
    orders.remove(first)
    ids = {orders.open("b", "p", "v", 10).id for _ in range(3)}
    assert all(len(each) >= 32 for each in ids)
    with pytest.raises(FullError):
        orders.open("c", "p", "v", 10)
    assert not {path.name for path in tmp_path.iterdir()} & ids, "the disk does not tell ids"


@pytest.mark.parametrize(
    ("limits", "words"),
    [(Limits(seconds=0.1), "lasts 0 s"), (Limits(pixels=64 * 47), "64 x 48"), (Limits(work=1e-9), "gave up")],
)
def test_videos_beyond_a_limit_are_refused(tmp_path, clip, limits, words):
    with served(tmp_path / "root", acted(Actor()), limits) as server:
        order = server.json("POST", "/api/videos", clip, VIDEO)[1]
        assert words in server.follow(order["id"], "failed")["error"]


def test_only_installed_packs_and_vocoders_can_be_chosen():
    models = Models("grid-s1")
    assert models.check("", "") == ("grid-s1", "griffin-lim")
    assert models.check("grid-s1", "waveglow") == ("grid-s1", "waveglow")
    for pack, vocoder in (("/etc", ""), ("../grid-s1", ""), ("", "/tmp"), ("", "mp4")):
        with pytest.raises(ConfigError):
            models.check(pack, vocoder)
    (facts,) = [each for each in models.facts() if each["name"] == "grid-s1"]
    assert facts["knows"]
    assert facts["vocoders"][0] == "griffin-lim"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\win.ini", "win.ini"),
        ("a\r\nSet-Cookie: x=1.mp4", "a Set-Cookie: x=1.mp4"),
        ("\u202e4pm.exe", "4pm.exe"),
        ("..", "video"),
        ("", "video"),
        ("\0", "video"),
        ("\ud800", "video"),
        ("é" * 500, "é" * 80),
        ("日本.mov", "日本.mov"),
    ],
)
def test_names_are_only_shown(name, wanted):
    assert shown(name) == wanted
    assert stem(wanted)


def test_a_server_that_others_reach_has_a_token():
    assert Address().secret() is None
    assert len(Address("0.0.0.0").secret() or "") >= 32
    assert Address("127.0.0.1", token="a" * 16).secret() == "a" * 16
    for token in ("short", "a" * 15, "a b" * 9, "a;" * 9, "é" * 20):
        with pytest.raises(ConfigError):
            Address(token=token)


def test_the_address_that_is_printed_can_be_opened():
    assert url(Address("0.0.0.0"), 8765, "t" * 16) == f"http://localhost:8765/?token={'t' * 16}"
    assert url(Address("192.168.0.7"), 8765, None) == "http://192.168.0.7:8765/"
    assert url(Address("::1"), 8765, None) == "http://localhost:8765/"


def frame(number: int, image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=90)
    return struct.pack(">d", 5 + number / 25) + data.getvalue()


@contextmanager
def speaking(server):
    with connect(f"ws://localhost:{server.port}/api/live", origin=f"http://localhost:{server.port}") as socket:
        yield socket


def test_frames_that_a_page_sends_come_back_as_sound_and_words(tmp_path):
    images = [image for _, image in media.stream_frames(EXAMPLE, 25)]
    models, limits = Models("grid-s1", "cpu"), Limits(stall=90.0)
    with served(tmp_path / "root", models, limits) as server, speaking(server) as socket:
        assert json.loads(socket.recv(60)) == {"ready": True}
        with speaking(server) as other:
            assert "somebody else" in json.loads(other.recv(10))["error"]
        for number, image in enumerate(images):
            socket.send(frame(number, image))
            time.sleep(0.05)
        samples, stamps, words = 0, [], []
        while samples < (len(images) - 20) * 640 or not words:
            told = socket.recv(90)
            if isinstance(told, bytes):
                stamps.append(struct.unpack_from(">d", told)[0])
                samples += (len(told) - 8) // 2
            elif "words" in told:
                words.append(json.loads(told)["words"])
        assert stamps == sorted(stamps)
        assert words[-1].keys() == {"settled", "open"}


def test_a_page_that_sends_nothing_more_is_told_why_it_ends(tmp_path):
    with served(tmp_path / "root", Models("grid-s1", "cpu"), Limits(stall=0.5)) as server, speaking(server) as socket:
        assert json.loads(socket.recv(60)) == {"ready": True}
        assert json.loads(socket.recv(60))["error"] == "the page sent no frame for 0.5 s"
        with pytest.raises(ConnectionClosed):
            socket.recv(60)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"1234567",
        b"\0" * 8,
        struct.pack(">d", float("nan")) + b"x",
        struct.pack(">d", 1e300) + b"x",
        struct.pack(">d", 0) + b"GIF89a" + b"\0" * 50,
        struct.pack(">d", 0) + b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
        struct.pack(">d", 0) + b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + b"\x01\x11\x00" * 3 + b"\xff\xd9",
        struct.pack(">d", 0) + b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
    ids=range(9),
)
def test_frames_that_are_none_are_refused(message):
    with pytest.raises(MediaError):
        read_frame(message)
