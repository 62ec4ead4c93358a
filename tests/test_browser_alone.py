"""Chromium reads lips in `examples/browser` by itself; skipped where Chromium or onnxruntime-web is not.

apt install chromium; npm install --prefix examples/browser; python -m pytest tests/test_browser_alone.py
"""

import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import pytest

pytest.importorskip("playwright")
pytest.importorskip("onnx")

from playwright.sync_api import expect, sync_playwright

from lipsound2 import media

EXAMPLES = Path(__file__).parents[1] / "examples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(not (EXAMPLES / "browser" / "vendor").exists(), reason="no npm install in examples/browser"),
]
PATIENCE = 240_000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "page"
    shutil.copytree(EXAMPLES / "browser", folder, ignore=shutil.ignore_patterns("node_modules", "pack"))
    subprocess.run([sys.executable, "-m", "lipsound2", "export", "grid-s1", "-o", str(folder / "pack")], check=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def opened(address: str, *flags: str):
    """Open the page; nothing may go wrong in it, and nothing may go elsewhere."""
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
        page = browser.new_context(permissions=["camera"]).new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith((address, "blob:", "data:")) or wrong.append(asked.url))
        page.goto(address)
        yield page
        browser.close()
    assert wrong == []


def test_a_file_is_read_and_nothing_leaves_the_machine(address):
    with opened(address) as page:
        page.set_input_files("#file", EXAMPLES / "prbh8s-silent.mp4")
        expect(page.locator("#status")).to_contain_text("Done", timeout=PATIENCE)
        assert page.locator("#text").inner_text() == "place red by h eight soon"
        assert page.locator("#audio").evaluate("audio => audio.duration") > 2


def test_what_is_said_before_the_camera_is_read(address, tmp_path):
    """The fake camera repeats a clip, with a second of stillness before and after."""
    images = [image for _, image in media.stream_frames(EXAMPLES / "prbh8s-silent.mp4", 25)]
    height, width = images[0].shape[:2]
    with (tmp_path / "film.y4m").open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420mpeg2\n".encode())
        for image in [images[0]] * 25 + images + [images[-1]] * 25:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            file.write(b"FRAME\n" + frame.to_ndarray().tobytes())
    played = f"--use-file-for-fake-video-capture={tmp_path / 'film.y4m'}"
    with opened(address, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", played) as page:
        page.click("#camera")
        expect(page.locator("#camera")).to_contain_text("Stop", timeout=PATIENCE)
        expect(page.locator("#status")).to_contain_text("Done", timeout=PATIENCE)  # it stops by itself
        assert "place red by h eight soon" in page.locator("#text").inner_text()


def test_without_a_camera_the_page_says_so(address):
    with opened(address) as page:
        page.click("#camera")
        expect(page.locator("#status")).to_have_text(
            "No camera was found: plug one in, or take a video file.", timeout=PATIENCE
        )
