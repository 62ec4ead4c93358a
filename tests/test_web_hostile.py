"""Hostile uploads and requests: nothing is read, written or run outside the folder of the server, and it goes on."""

import json
import os
import socket
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from served import VIDEO, Served, listen, served
from test_web import Actor, acted
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from lipsound2.web.limits import Limits

SECRET = "the secret of somebody else"
UPLOAD = b"POST /api/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
TOKEN = "a-token-of-the-test-0123456789"
LIMITS = Limits(upload=100_000, stall=1.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server beside a file that nobody may see; the actor decodes what it is sent."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "secret.txt").write_text(SECRET)
    with served(folder / "root", acted(Actor()), LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A server that asks for a token."""
    with served(
        tmp_path_factory.mktemp("closed") / "root", acted(Actor()), LIMITS, token=TOKEN, numbers=True
    ) as running:
        yield running


@contextmanager
def unharmed(server: Served):
    """Check that outside of the server's folder all is as before, and that it still answers."""
    top = server.root.parent
    before = {path: path.stat().st_mtime_ns for path in top.rglob("*") if server.root not in (path, *path.parents)}
    yield
    after = {path: path.stat().st_mtime_ns for path in top.rglob("*") if server.root not in (path, *path.parents)}
    assert after == before
    assert (top / "secret.txt").read_text() == SECRET
    assert server.ask("GET", "/api/about").status == 200


PATHS = [
    "/page/../../secret.txt",
    "/page/..%2f..%2fsecret.txt",
    "/page/%2e%2e/%2e%2e/secret.txt",
    "/page/..%5c..%5csecret.txt",
    "/page//etc/passwd",
    "/page/%00",
    "/page/page.js%00.html",
    "/page/__init__.py",
    "//etc/passwd",
    "/../../../../etc/passwd",
    "/api/videos/../../secret.txt",
    "/api/videos/%2e%2e%2f%2e%2e",
    "/api/videos/x/files/..%2f..%2f..%2fsecret.txt",
    "file:///etc/passwd",
    "/api/videos/" + "a" * 5000,
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out(server, path):
    with unharmed(server):
        answer = server.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.split(b" ")[1] in (b"400", b"404", b"405", b"307"), answer
        assert SECRET.encode() not in answer
        assert b"root:" not in answer


NAMES = [
    "../../../secret.txt",
    "..\\..\\secret.txt",
    "/etc/passwd",
    "C:\\Windows\\system32",
    "a\r\nX-Evil: 1\r\n\r\n<script>",
    "<img src=x onerror=alert(1)>.mp4",
    "$(touch /tmp/lipsound2-evil).mp4",
    "`touch /tmp/lipsound2-evil`",
    "-i http://evil.example/x.mp4",
    "concat:/etc/passwd|x.mp4",
    "video%03d.mp4",
    "\x00.mp4",
    "con",
    "a" * 6_000,
    "\u202egpm.exe",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_leads_out(server, name):
    with unharmed(server):
        status, told = server.json("POST", f"/api/videos?name={quote(name)}", b"no video at all", VIDEO)
        assert status == 201
        assert not set(told["name"]) & set("/\\\r\n\0")
        folder = server.server.orders.find(told["id"]).folder
        assert folder.parent == server.root
        assert server.follow(told["id"], "failed")["error"]
        assert sorted(path.name for path in server.root.rglob("*") if path.is_file()) == []
        for file in ("../secret.txt", "video", "..", ""):
            answer = server.ask("GET", f"/api/videos/{told['id']}/files/{quote(file, safe='')}")
            assert answer.status in (404, 405)
        server.ask("DELETE", f"/api/videos/{told['id']}")
    assert not Path("/tmp/lipsound2-evil").exists()


def contents(secret: Path) -> dict[str, bytes]:
    """Write files that make some players read others."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode(),
        "hls behind a mark": b"\xef\xbb\xbf\n #EXTM3U\n#EXTINF:1,\nconcat:file:///etc/passwd\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "dash": f'<?xml version="1.0"?><MPD><BaseURL>file://{secret}</BaseURL></MPD>'.encode(),
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>'.encode(),
        "xml entity": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        "script": b"#!/bin/sh\ntouch /tmp/lipsound2-evil\n",
        "pickle": b"cos\nsystem\n(S'touch /tmp/lipsound2-evil'\ntR.",
        "zip": b"PK\x03\x04" + b"\0" * 400,
        "webpage": b"<html><script>alert(1)</script>",
        "mp4 of another file": b"\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x24moov\0\0\0\x1cdrefalis" + str(secret).encode(),
        "avi without end": b"RIFF\xff\xff\xff\x7fAVI LIST\xff\xff\xff\x7fhdrl",
        "mkv without end": b"\x1aE\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff",
        "zeros": b"\0" * 50_000,
    }


@pytest.mark.parametrize("kind", contents(Path()))
def test_no_content_leads_out(server, kind):
    with unharmed(server):
        body = contents(server.root.parent / "secret.txt")[kind]
        told = server.json("POST", "/api/videos?name=x.mp4", body, VIDEO)[1]
        failed = json.dumps(server.follow(told["id"], "failed"))
        assert SECRET not in failed
        assert "root:" not in failed
        assert str(server.root) not in failed
        server.ask("DELETE", f"/api/videos/{told['id']}")
    assert not Path("/tmp/lipsound2-evil").exists()


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example"},
    {"Host": "evil@localhost"},
    {"Host": "localhost/../x"},
    {"Host": "127.0.0.1.nip.io"},
    {"Host": "192.168.0.1"},
    {"Host": "[::1"},
    {"Host": ""},
    {"Host": "localhost:99999999"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: headers["Host"])
def test_names_of_other_pages_are_refused(server, headers):
    answer = server.ask("GET", "/api/about", headers=headers)
    assert answer.status in (400, 403)
    assert b"packs" not in answer.content


def test_two_hosts_are_refused(server):
    answer = server.raw(
        b"GET /api/about HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    )
    assert answer.split(b" ")[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "file://"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_other_pages_can_change_nothing(server, headers):
    for method, path in (("POST", "/api/videos"), ("POST", "/api/videos/x/face"), ("DELETE", "/api/videos/x")):
        assert server.ask(method, path, b"x", headers | VIDEO).status == 403
    assert list(server.root.iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""]
)
def test_what_a_form_can_send_is_refused(server, kind):
    assert server.ask("POST", "/api/videos", b"x", {"Content-Type": kind}).status == 415


def test_no_other_page_may_read_answers_or_frame_them(server):
    answer = server.ask("GET", "/", headers={"Origin": "http://evil.example"})
    assert answer.headers.get("access-control-allow-origin") is None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert server.ask("OPTIONS", "/api/videos", headers={"Origin": "http://evil.example"}).status in (403, 405)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
def test_sockets_of_other_pages_are_refused(server, origin):
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://localhost:{server.port}/api/live", origin=origin):
        pass
    assert refused.value.response.status_code == 403


def test_a_file_of_two_gigabytes_is_refused_before_it_is_sent(server):
    began = time.monotonic()
    answer = server.raw(UPLOAD + b"Content-Length: 2000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert time.monotonic() - began < 2.5
    assert list(server.root.iterdir()) == []


@pytest.mark.parametrize("length", ["-1", "1e9", "9" * 30, "0x10", "1, 2"])
def test_odd_lengths_are_refused(server, length):
    assert server.raw(UPLOAD + f"Content-Length: {length}\r\n\r\n".encode()).split(b" ")[1] in (b"400", b"413")


def test_what_states_no_length_is_counted(server):
    piece = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    answer = server.raw(UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 8)
    assert answer.startswith(b"HTTP/1.1 413")
    assert list(server.root.iterdir()) == []


def test_an_empty_upload_is_refused(server):
    assert server.ask("POST", "/api/videos", b"", VIDEO).status == 400


def test_an_upload_that_stands_still_is_given_up_and_others_go_on(server):
    head = UPLOAD + b"Content-Length: 9000\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", server.port))) as slow:
        slow.sendall(head + b"some")
        assert server.ask("GET", "/").status == 200
        answer = listen(slow, 4)
    assert answer.startswith(b"HTTP/1.1 408")
    assert list(server.root.iterdir()) == []


def test_a_head_that_never_ends_is_hung_up(server):
    lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for line in lines:
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    assert server.ask("GET", "/").status == 200
    began = time.monotonic()
    for line in lines:
        listen(line, 5)
        line.close()
    assert time.monotonic() - began < 5, "all were hung up within the patience"


def test_an_upload_that_breaks_off_leaves_nothing(server):
    head = UPLOAD + b"Content-Length: 9000\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", server.port))) as line:
        line.sendall(head + b"some")
        time.sleep(0.2)
    end = time.monotonic() + 3
    while list(server.root.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(server.root.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 9_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        os.urandom(2000) + b"\r\n\r\n",
        UPLOAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
    ],
    ids=["long header", "long path", "many headers", "tls", "version", "noise", "smuggling", "bad header", "folded"],
)
def test_requests_that_are_none_are_refused(server, data):
    with unharmed(server):
        answer = server.raw(data, wait=2.5)
        assert answer == b"" or answer.split(b" ")[1][:1] == b"4", answer[:200]


def test_without_the_token_nothing_is_answered(closed):
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "lipsound2=wrong"},
        {"Cookie": f"other={TOKEN}"},
        {"Cookie": 'lipsound2="'},
        {"Authorization": "Bearer \u00ff"},
    ):
        for path in ("/", "/api/about", "/page/page.js", f"/api/about?token={TOKEN}"):
            assert closed.ask("GET", path, headers=headers).status == 401
        assert closed.ask("POST", "/api/videos", b"x", headers | VIDEO).status == 401
    assert closed.ask("GET", "/?token=wrong").status == 401
    with (
        pytest.raises(InvalidStatus),
        connect(f"ws://localhost:{closed.port}/api/live", origin=f"http://localhost:{closed.port}"),
    ):
        pass


def test_with_the_token_all_is_answered(closed):
    answer = closed.ask("GET", f"/?token={TOKEN}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert closed.ask("GET", "/", headers={"Cookie": cookie.split(";")[0]}).status == 200
    assert closed.ask("GET", "/api/about", headers={"Authorization": f"Bearer {TOKEN}"}).status == 200


def test_where_all_addresses_are_listened_at_numbers_are_names_and_words_are_not(closed):
    for host, status in (("192.168.0.7", 200), ("[fe80::1]:80", 200), ("evil.example", 403)):
        assert (
            closed.ask("GET", "/api/about", headers={"Host": host, "Authorization": f"Bearer {TOKEN}"}).status == status
        )


def test_many_connections_leave_the_server_answering(server):
    answers: list[int] = []

    def one() -> None:
        answers.append(server.ask("GET", "/api/about").status)

    threads = [threading.Thread(target=one) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 503}
    assert server.ask("GET", "/api/about").status == 200
