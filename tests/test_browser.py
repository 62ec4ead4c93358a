"""Chromium uses the page: drops, chooses, hears, records, speaks live. Skipped where there is no Chromium.

    apt install chromium; python -m pytest tests/test_browser.py

The variable LIPSOUND2_SHOTS names a folder for pictures of what was seen.
"""

import base64
import io
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

pytest.importorskip("playwright")
pytest.importorskip("starlette")

from playwright.sync_api import Page, expect, sync_playwright
from served import served

from lipsound2 import media
from lipsound2.inference.recognizers import choose
from lipsound2.packs import find_pack
from lipsound2.recognizer.beam import BeamConfig
from lipsound2.web.limits import Limits
from lipsound2.web.models import Models

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
EXAMPLE = Path(__file__).parents[1] / "examples" / "bgal7s-silent.mp4"
PATIENCE = 240_000
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
DROP = """([data, name]) => {
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "video/mp4" }));
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("browsed") / "root", Models("grid-s1", "cpu"), Limits()) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    camera = tmp_path_factory.mktemp("camera") / "camera.y4m"
    write(camera, [image for _, image in media.stream_frames(EXAMPLE, 25)], "wrapped_avframe", "yuv4mpegpipe")
    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture
def page(browser, server):
    yield from visit(browser, server)


@pytest.fixture
def phone(browser, server):
    yield from visit(browser, server, **PHONE)


def visit(browser, server, **settings):
    """Open the page; nothing may go wrong in it, and nothing may come from elsewhere."""
    context = browser.new_context(permissions=["camera"], **settings)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda asked: wrong.append(asked.url) if not own(asked.url, server) else None)
    opened.goto(f"http://localhost:{server.port}/")
    expect(opened.get_by_label("Pack")).to_have_value("grid-s1")
    yield opened
    context.close()
    assert wrong == []


def own(url: str, server) -> bool:
    return url.startswith((f"http://localhost:{server.port}/", f"ws://localhost:{server.port}/", "blob:", "data:"))


def write(path: Path, images, codec: str = "libx264", container: str = "mp4") -> None:
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("LIPSOUND2_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def send(page: Page, path: Path, name: str = ""):
    page.set_input_files("#file", path)
    return page.get_by_role("article").filter(has=page.get_by_role("heading", name=name or path.name)).first


def wait_done(item) -> None:
    expect(item.locator(".state")).to_contain_text("done", timeout=PATIENCE)


def read_aloud(page: Page, item) -> str:
    """Fetch the sound as the player would, and recognise it."""
    address = item.get_by_role("link", name="Sound (wav)").get_attribute("href")
    answer = page.request.get(page.url.rstrip("/") + address)
    sound, rate = soundfile.read(io.BytesIO(answer.body()), dtype="float32")
    reader = choose("jasper", find_pack("grid-s1").recognizer, "cpu", BeamConfig(), needs_language=True)
    assert rate == reader.sample_rate
    return reader.transcribe(sound).text


def test_a_video_is_dropped_heard_read_and_kept(page):
    page.evaluate(DROP, [base64.b64encode(EXAMPLE.read_bytes()).decode(), "me <b>.mp4"])
    item = page.get_by_role("article").first
    expect(item.get_by_role("heading", level=3)).to_have_text("me <b>.mp4")
    wait_done(item)
    text = item.locator(".read").inner_text()
    assert text.endswith("seven soon")
    assert read_aloud(page, item) == text
    words = item.get_by_role("list", name=re.compile("Words")).get_by_role("button")
    assert words.count() == len(text.split())
    assert re.search(r"\d+\.\d\d s, \d+ %", words.first.inner_text())
    player = item.locator(".result video")
    page.wait_for_function("() => document.querySelector('.result video').readyState >= 2")
    assert player.evaluate("video => video.textTracks.length") == 1
    words.last.click()
    page.wait_for_function("() => document.querySelector('.result video').currentTime > 0.5")
    item.get_by_text("Spectrogram", exact=True).click()
    page.wait_for_function("() => document.querySelector('.figure').naturalWidth > 500")
    with page.expect_download() as kept:
        item.get_by_role("link", name="All (zip)").click()
    assert kept.value.suggested_filename == "me _b_.zip"
    assert Path(kept.value.path()).read_bytes()[:2] == b"PK"
    shot(page, "done")
    page.reload()
    wait_done(page.get_by_role("article").first)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("None yet.")).to_be_visible()


def test_one_of_two_faces_is_chosen_by_the_keyboard(phone, tmp_path):
    left = [image for _, image in media.stream_frames(EXAMPLE, 25)]
    right = [image for _, image in media.stream_frames(EXAMPLE.with_name("lbwf6p-silent.mp4"), 25)]
    size = min(left[0].shape[0], right[0].shape[0])
    both = [np.hstack([a[:size], b[:size]]) for a, b in zip(left, right, strict=False)]
    write(tmp_path / "two.mp4", [image[: size // 2 * 2, : image.shape[1] // 2 * 2] for image in both])
    item = send(phone, tmp_path / "two.mp4")
    expect(item.locator(".state")).to_contain_text("choose one", timeout=PATIENCE)
    buttons = item.get_by_role("group", name="Whose lips?").get_by_role("button")
    assert buttons.count() == 2
    phone.wait_for_function("() => [...document.querySelectorAll('.portraits img')].every((img) => img.naturalWidth)")
    shot(phone, "faces-phone")
    buttons.first.focus()
    phone.keyboard.press("Enter")
    wait_done(item)
    shot(phone, "done-phone")
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is wider than a phone"


def test_the_camera_is_recorded(page):
    page.get_by_role("button", name="Record with the camera").click()
    expect(page.locator("#camera-state")).to_contain_text("Recording")
    page.wait_for_timeout(3500)
    shot(page, "recording")
    page.get_by_role("button", name="Stop").click()
    item = page.get_by_role("article").first
    expect(item.get_by_role("heading", level=3)).to_contain_text("recording")
    wait_done(item)
    assert item.locator(".read").inner_text()


def test_one_speaks_live(page):
    page.get_by_role("button", name="Speak live").click()
    page.wait_for_function("() => document.body.dataset.late", timeout=PATIENCE)
    expect(page.locator("#captions")).to_contain_text(re.compile("bin|soon|seven|at"), timeout=PATIENCE)
    expect(page.locator("#camera-state")).to_contain_text("behind your lips", timeout=PATIENCE)
    shot(page, "live")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#camera")).to_be_hidden()
    expect(page.get_by_role("button", name="Speak live")).to_be_enabled()
    assert not page.locator("#problem").is_visible()


def test_two_visitors_at_once_and_neither_sees_the_other(browser, server):
    first, second = (visit(browser, server) for _ in range(2))
    one, other = next(first), next(second)
    a, b = send(one, EXAMPLE), send(other, EXAMPLE.with_name("prbh8s-silent.mp4"))
    expect(b.locator(".state")).to_contain_text(re.compile("number|finding|reading|done"), timeout=PATIENCE)
    wait_done(a)
    wait_done(b)
    assert a.locator(".read").inner_text().endswith("seven soon")
    assert b.locator(".read").inner_text() == "place red by h eight soon"
    assert one.get_by_role("article").count() == other.get_by_role("article").count() == 1
    for visitor in (first, second):
        next(visitor, None)


def test_a_broken_file_and_one_of_two_gigabytes_are_refused_in_one_line(page, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(EXAMPLE.read_bytes()[:700])
    with (tmp_path / "huge.mp4").open("wb") as file:
        file.truncate(2_000_000_000)
    item = send(page, tmp_path / "broken.mp4")
    expect(item.locator(".state.error")).to_contain_text("broken.mp4", timeout=PATIENCE)
    item = send(page, tmp_path / "huge.mp4")
    expect(item.locator(".state.error")).to_contain_text("larger than 500 MB")
    shot(page, "refused")


def test_the_page_is_used_by_keyboard_and_every_control_has_a_name(page):
    shot(page, "start")
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert seen[:6] == ["Skip to the videos", "pack", "vocoder", "file", "record", "live"]
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, img, video, progress")]
        .filter((each) => !(each.textContent.trim() || each.getAttribute("aria-label") || each.alt !== undefined
            || each.labels?.length)).map((each) => each.outerHTML)"""
    )
    assert unnamed == []


def test_what_is_not_in_use_is_not_seen(page):
    for hidden in ("#camera", "#problem", "#captions"):
        expect(page.locator(hidden)).to_be_hidden()


def test_the_page_fits_a_phone(phone):
    shot(phone, "start-phone")
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    heights = phone.evaluate(
        "[...document.querySelectorAll('button, .button, select')].filter(e => e.offsetParent).map(e => e.offsetHeight)"
    )
    assert min(heights) >= 44, "fingers find every control"
