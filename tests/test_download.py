"""Downloads from a server that drops, stalls and lies, and archives that would break out."""

import hashlib
import io
import json
import shutil
import stat
import threading
import time
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from lipsound2.cli import app
from lipsound2.corpora import find_reader, published
from lipsound2.errors import ConfigError, DataError, DownloadError, StorageError
from lipsound2.runtime.download import CACHE_VARIABLE, Patience, Remote, download, fetch
from lipsound2.runtime.executors import InProcess, Processes
from lipsound2.runtime.unpack import unpack

BODY = bytes(range(256)) * 2000
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
TERMS = {"license": {"id": "cc-by-4.0"}}
QUICK = Patience(timeout=0.4, attempts=3, pause=0.01, longest=0.02)


class Server(BaseHTTPRequestHandler):
    """Serves files; how it misbehaves is the first part of the path."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[tuple[str, str | None]]] = []
    lock = threading.Lock()

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        manner, _, name = self.path.strip("/").partition("/")
        wanted = self.headers.get("Range")
        with self.lock:
            times = sum(path == self.path for path, _ in self.asked)
            self.asked.append((self.path, wanted))
        body = self.files.get(name, BODY)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        getattr(self, manner)(body, start, times)

    def send(self, body: bytes, start: int, sent: int | None = None, **headers: str) -> None:
        part = body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(part)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(part[:sent])

    def good(self, body: bytes, start: int, _times: int) -> None:
        self.send(body, start)

    def drops(self, body: bytes, start: int, _times: int) -> None:
        self.send(body, start, 100_000)

    def stalls(self, body: bytes, start: int, times: int) -> None:
        self.send(body, start, None if times else 200_000)
        if not times:
            time.sleep(1.0)

    def drips(self, body: bytes, start: int, times: int) -> None:
        if times:
            return self.send(body, start)
        self.send(body, start, 0)
        for byte in body[:8]:
            try:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            except OSError:
                return None
            time.sleep(0.15)
        return None

    def restarts(self, body: bytes, _start: int, times: int) -> None:
        self.send(body, 0, None if times else 100_000)

    def misplaces(self, body: bytes, start: int, times: int) -> None:
        if times == 0:
            return self.send(body, 0, 100_000)
        if times == 1:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 5-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - 5))
            self.end_headers()
            return self.wfile.write(body[5:]) and None
        return self.send(body, start)

    def spoils(self, body: bytes, start: int, times: int) -> None:
        self.send(body if times else bytes(len(body)), start)

    def lies(self, body: bytes, start: int, _times: int) -> None:
        self.send(bytes(len(body)), start)

    def pages(self, _body: bytes, _start: int, _times: int) -> None:
        self.send(b"<!DOCTYPE html><html>Please log in</html>", 0)

    def pours(self, body: bytes, _start: int, _times: int) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body + body)

    def busy(self, body: bytes, start: int, times: int) -> None:
        if times < 2:
            self.send_response(503)
            self.send_header("Retry-After", "1")
            self.end_headers()
        else:
            self.send(body, start)

    def lacks(self, *_args: object) -> None:
        self.send_response(404)
        self.end_headers()

    def dies(self, *_args: object) -> None:
        self.close_connection = True


@pytest.fixture
def server():
    class Fresh(Server):
        files: ClassVar[dict[str, bytes]] = {}
        asked: ClassVar[list[tuple[str, str | None]]] = []

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    Fresh.url = f"http://127.0.0.1:{listening.server_port}"
    yield Fresh
    listening.shutdown()
    listening.server_close()


@pytest.mark.parametrize("manner", ["good", "drops", "stalls", "drips", "restarts", "misplaces", "spoils", "busy"])
def test_whatever_the_server_does_the_file_is_the_right_one(server, tmp_path, manner):
    slept: list[float] = []
    target = tmp_path / "a" / "file.zip"
    patience = Patience(timeout=0.4, slowest=100.0, attempts=3, pause=0.01, longest=2.0)
    download(Remote(f"{server.url}/{manner}/x", len(BODY), MD5), target, patience, slept.append)
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["file.zip"]
    ranges = [wanted for _, wanted in server.asked]
    assert len(ranges) == {"good": 1, "drops": 6, "misplaces": 3, "busy": 3}.get(manner, 2)
    if manner == "drops":
        assert ranges[1:] == [f"bytes={n}00000-" for n in range(1, 6)]
    if manner == "busy":
        assert slept == [1.0, 1.0], "as long as the server asked"


@pytest.mark.parametrize(
    ("manner", "message", "asked"),
    [
        ("lies", "is not the expected file: its checksum differs, it holds zeros only", 2),
        ("pages", "the server has a file of 41 bytes, 512,000 were expected", 3),
        ("pours", "is longer than the 512,000 bytes that were expected", 1),
        ("lacks", "404 Not Found", 1),
        ("dies", "Remote end closed connection", 3),
    ],
)
def test_what_cannot_be_had_is_one_line_and_leaves_no_file(server, tmp_path, manner, message, asked):
    with pytest.raises(DownloadError, match=message):
        download(Remote(f"{server.url}/{manner}/x", len(BODY), MD5), tmp_path / "x.zip", QUICK)
    assert len(server.asked) == asked
    assert not (tmp_path / "x.zip").exists()


def test_a_later_call_goes_on_with_what_is_there(server, tmp_path):
    (tmp_path / "x.zip.partial").write_bytes(BODY[:300_000])
    download(Remote(f"{server.url}/good/x", len(BODY), MD5), tmp_path / "x.zip", QUICK)
    assert server.asked == [("/good/x", "bytes=300000-")]
    (tmp_path / "y.zip.partial").write_bytes(b"?" * 300_000)
    download(Remote(f"{server.url}/good/y", len(BODY), MD5), tmp_path / "y.zip", QUICK)
    assert (tmp_path / "y.zip").read_bytes() == BODY, "what was there was of another file"
    (tmp_path / "z.zip.partial").write_bytes(BODY * 2)
    download(Remote(f"{server.url}/good/z", len(BODY), MD5), tmp_path / "z.zip", QUICK)
    assert (tmp_path / "z.zip").read_bytes() == BODY


def test_nothing_but_the_web_is_asked(tmp_path):
    (tmp_path / "secret").write_text("x")
    for url in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/x", "x"):
        with pytest.raises(DownloadError, match="is no address of the web"):
            download(Remote(url), tmp_path / "x", QUICK)
    with pytest.raises(DownloadError, match="cannot fetch http://127"):
        download(Remote("http://127.0.0.1:9/x"), tmp_path / "x", QUICK)


def test_a_cached_file_is_fetched_once_and_never_trusted_unchecked(server, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    checksum = hashlib.sha256(BODY).hexdigest()
    path = fetch(f"{server.url}/drops/model.onnx", checksum, QUICK)
    assert path.read_bytes() == BODY
    count = len(server.asked)
    assert fetch(f"{server.url}/drops/model.onnx", checksum, QUICK) == path
    assert len(server.asked) == count
    path.write_bytes(b"changed")
    assert fetch(f"{server.url}/good/model.onnx", checksum, QUICK).read_bytes() == BODY
    with pytest.raises(DownloadError, match="checksum differs") as caught:
        fetch(f"{server.url}/lies/model.onnx", hashlib.sha256(b"").hexdigest(), QUICK)
    assert "fetch it by hand into" in caught.value.hint


def zipped(**contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def zenodo(server, monkeypatch):
    """A record of GRID: two speakers, their alignments, and audio that is not needed."""
    files = {
        "s1.zip": zipped(**{"s1/bbaf2n.mpg": BODY, "s1/lwbs9a.mpg": b"x", "__MACOSX/s1/._bbaf2n.mpg": b"y"}),
        "s2.zip": zipped(**{"bbaf2n.mpg": b"flat"}),
        "alignments.zip": zipped(**{"alignments/s1/bbaf2n.align": b"0 1 sil\n"}),
        "audio_25k.zip": zipped(**{"audio_25k/s1/bbaf2n.wav": b"x"}),
        "../evil.zip": zipped(x=b"x"),
    }

    def record(manners: dict[str, str]) -> None:
        rows = [
            {
                "key": name,
                "size": len(data),
                "checksum": f"md5:{hashlib.md5(data).hexdigest()}",
                "links": {"self": f"{server.url}/{manners.get(name, 'good')}/{name}"},
            }
            for name, data in files.items()
        ]
        server.files.update(files)
        server.files["3625687"] = json.dumps({"files": rows, "metadata": TERMS}).encode()

    monkeypatch.setattr(published, "API", f"{server.url}/good")
    record({})
    return record


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_grid_is_fetched_and_unpacked_so_that_its_reader_finds_it(zenodo, server, tmp_path):
    output = tmp_path / "GRID"
    done = CliRunner().invoke(app, ["download", "grid", "-o", str(output), "--workers", "1"])
    assert done.exit_code == 0, done.exception
    assert "3 archives fetched, 0 there, 0 failures" in done.output
    assert [clip.id for clip in find_reader("grid")(output)] == ["s1/bbaf2n", "s1/lwbs9a", "s2/bbaf2n"]
    assert (output / "s1" / "bbaf2n.mpg").read_bytes() == BODY
    assert not [name for name in tree(output) if "MACOSX" in name or name.endswith((".zip", ".partial"))]
    source = (output / "SOURCE.md").read_text()
    assert "zenodo.org/records/3625687" in source
    assert "whose terms are: cc-by-4.0." in source
    assert source.count("md5:") == 3
    asked = len(server.asked)
    done = CliRunner().invoke(app, ["download", "grid", "-o", str(output), "--workers", "1"])
    assert "0 archives fetched, 3 there, 0 failures" in done.output
    assert len(server.asked) == asked + 1, "the record alone"


def test_speakers_and_all_archives(zenodo, tmp_path):
    archives = published.find_archives("grid", tmp_path, ("s2",), patience=QUICK)
    assert [archive.name for archive in archives] == ["s2.zip", "alignments.zip"]
    everything = published.find_archives("grid", tmp_path, everything=True, patience=QUICK)
    assert [archive.name for archive in everything] == ["s1.zip", "s2.zip", "alignments.zip", "audio_25k.zip"]
    with pytest.raises(ConfigError, match="there is no speaker s9") as caught:
        published.find_archives("grid", tmp_path, ("s9",), patience=QUICK)
    assert caught.value.hint == "known: s1, s2"


def test_one_archive_that_fails_stops_no_other_and_is_tried_again(zenodo, tmp_path):
    zenodo({"s1.zip": "dies"})
    archives = published.find_archives("grid", tmp_path, patience=QUICK)
    report = published.fetch_archives(archives, "grid", InProcess(), QUICK)
    assert (report.made, report.kept, [failure.name for failure in report.failures]) == (2, 0, ["s1.zip"])
    assert not (tmp_path / "s1").exists()
    zenodo({"s1.zip": "drops"})
    archives = published.find_archives("grid", tmp_path, patience=QUICK)
    report = published.fetch_archives(archives, "grid", InProcess(), QUICK)
    assert (report.made, report.kept, report.failures) == (1, 2, [])
    assert (tmp_path / "s1" / "bbaf2n.mpg").read_bytes() == BODY


def test_several_processes_fetch_the_same_and_damage_is_found(zenodo, tmp_path):
    zenodo({"s1.zip": "spoils", "s2.zip": "drops"})
    for folder, executor in (("one", InProcess()), ("two", Processes(2))):
        archives = published.find_archives("grid", tmp_path / folder, patience=QUICK)
        report = published.fetch_archives(archives, "grid", executor, Patience(attempts=3, pause=0.01))
        assert report.failures == []
    names = [{name for name in tree(tmp_path / folder) if not name.startswith(".")} for folder in ("one", "two")]
    assert names[0] == names[1]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names[0])


def test_a_full_disk_is_told_before_anything_is_fetched(zenodo, server, tmp_path, monkeypatch):
    archives = published.find_archives("grid", tmp_path, patience=QUICK)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(StorageError, match=r"about 0\.0 GB are needed"):
        published.fetch_archives(archives, "grid", InProcess(), QUICK)
    assert Counter(path for path, _ in server.asked) == {"/good/3625687": 1}


@pytest.mark.parametrize("answer", [b"{}", b"<html>", b'{"files": [{"key": "s1.zip", "size": 1}]}', b'{"files": []}'])
def test_a_record_that_makes_no_sense_is_one_line(zenodo, server, tmp_path, answer):
    server.files["3625687"] = answer
    with pytest.raises(DownloadError, match=r"gives no list of files|lists none of the archives"):
        published.find_archives("grid", tmp_path, patience=QUICK)


def test_corpora_whose_owners_want_to_be_asked_are_not_fetched(tmp_path):
    for name, message in (("voxceleb2", "VoxCeleb2 cannot be fetched by a program"), ("x", "no corpus 'x'")):
        with pytest.raises(ConfigError, match=message):
            published.find_archives(name, tmp_path)
    with pytest.raises(ConfigError, match="--speakers does nothing here"):
        published._of_speakers(published.PUBLISHED["lombard-grid"], [], ("s2",))


@pytest.mark.parametrize("name", ["../out.mpg", "/etc/out.mpg", "a/../../out.mpg", "C:\\out.mpg", "a\\..\\..\\out"])
def test_no_file_is_unpacked_outside_of_the_folder(tmp_path, name):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(**{"s1/good.mpg": b"x", name: b"evil"}))
    before = tree(tmp_path)
    with pytest.raises(DataError, match="would lie outside"):
        unpack(archive, tmp_path, tmp_path / "scratch")
    assert tree(tmp_path) == before


def linked() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("s1/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped(**{"a.mpg": b"x"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    return bytes(data)


def damaged() -> bytes:
    data = bytearray(zipped(**{"s1/a.mpg": BODY[::-1] + BODY}))
    data[200] ^= 255
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (linked(), "is no plain file"),
        (encrypted(), "is encrypted"),
        (damaged(), "is no whole zip archive|cannot be read"),
        (zipped(**{"s1/a.mpg": BODY})[:-40], "is no whole zip archive"),
        (b"<!DOCTYPE html>", "is a web page"),
    ],
)
def test_archives_that_cannot_be_unpacked_leave_nothing(tmp_path, data, message):
    archive = tmp_path / "a.zip"
    archive.write_bytes(data)
    with pytest.raises(Exception, match=message) as caught:
        unpack(archive, tmp_path / "out", tmp_path / "out" / "scratch")
    assert isinstance(caught.value, DataError) or caught.type.__name__ == "MediaError"
    assert not [name for name in tree(tmp_path) if name.endswith(".mpg") and "scratch" not in name]


def test_more_than_there_is_room_for_is_not_unpacked(tmp_path, monkeypatch):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(**{"s1/a.mpg": bytes(10_000_000)}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 100_000))
    with pytest.raises(StorageError, match=r"0\.0 GB unpacked"):
        unpack(archive, tmp_path, tmp_path / "scratch")
    assert tree(tmp_path) == {"a.zip"}
