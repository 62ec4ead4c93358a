"""The example program speaks and reads the clips that lie beside it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def demo(folder: Path, *videos: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), *map(str, videos)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", ["lbwf6p", "bgal7s", "prbh8s"])
def test_a_silent_example_is_spoken_and_read(tmp_path, name):
    done = demo(tmp_path, ROOT / "examples" / f"{name}-silent.mp4")
    assert done.returncode == 0, done.stderr
    video, said, read, files = done.stdout.splitlines()
    assert Path(video).name == f"{name}-silent.mp4"
    words = (ROOT / "examples" / f"{name}.txt").read_text(encoding="utf-8").split()
    assert said.split()[1:] == words
    assert sum(a == b for a, b in zip(read.split()[1:], words, strict=False)) >= 4
    assert {Path(file).suffix for file in files.split()[1:]} == {".wav", ".mp4", ".png", ".txt", ".srt"}
    assert all((tmp_path / file).stat().st_size for file in files.split()[1:])


def test_a_missing_video_is_one_line(tmp_path):
    done = demo(tmp_path, tmp_path / "not here.mp4")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) <= 2
    assert "not here.mp4" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_extras_that_doctor_looks_for_are_those_of_the_package():
    """Each requirement of an extra is looked for by the module that it brings."""
    from lipsound2.doctor import EXTRAS

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra, modules in EXTRAS.items():
        needs = [re.split(r"[<>=;]", line)[0] for line in project["optional-dependencies"][extra]]
        assert {need.replace("-", "_") for need in needs} == set(modules)


def test_doctor_speaks_the_clip_of_the_package_and_says_how_long_it_took():
    from lipsound2.doctor import SAID, examine, example

    assert example().read_bytes() == (ROOT / "examples" / "prbh8s.mp4").read_bytes()
    found = {check.name: check for check in examine()}
    spoken = found["speak and read"]
    assert spoken.works, spoken.detail
    assert f"hypothesis: '{SAID}'" in spoken.detail
    assert re.search(r"2\.5 s of video in \d+\.\d s", spoken.detail)
