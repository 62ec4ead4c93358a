"""The README's commands and code run as they stand, on small data and for one epoch."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_packs import pack, run

from lipsound2.corpora.folder import find_videos

__all__ = ["pack", "run"]
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SHORT = {"pretrain": ["--epochs", "1", "--batch-size", "2"], "finetune": ["--epochs", "1", "--batch-size", "2"]}


def shell_lines(heading: str) -> list[str]:
    """Give the indented command lines below a heading, without comments."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^    (lipsound2 .*)$", section, flags=re.MULTILINE)
    return [line.split(" #")[0].strip() for line in lines]


@pytest.fixture
def newcomer(clips, tmp_path) -> Path:
    """A folder with what the README takes for granted."""
    videos = find_videos(clips)
    shutil.copy(videos[0], tmp_path / "clip.mp4")
    shutil.copy(videos[1], tmp_path / "other.mov")
    (tmp_path / "folder").mkdir()
    shutil.copy(videos[2], tmp_path / "folder" / "third.mp4")
    shutil.copytree(clips, tmp_path / "my-videos")
    return tmp_path


def call(line: str, folder: Path) -> None:
    words = shlex.split(line)
    command = [sys.executable, "-m", *words, *SHORT.get(words[1], [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{line}: {done.stderr}"


def test_one_command(newcomer):
    for line in shell_lines("One command"):
        call(line, newcomer)
    assert {path.name for path in (newcomer / "out").iterdir()} >= {"clip.wav", "clip.mp4", "clip.png", "other.wav"}


def test_five_lines_of_python(newcomer):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=newcomer, check=True)
    assert (newcomer / "out" / "clip.wav").is_file()


def test_training_on_a_person(newcomer):
    lines = shell_lines("Train it on a person")
    assert len(lines) == 4
    shutil.rmtree(newcomer / "out", ignore_errors=True)
    for line in lines:
        call(line, newcomer)


def test_what_the_readme_points_at_exists():
    root = Path(__file__).parents[1]
    links = re.findall(r"\]\((?!http)([^)#]+)", README) + re.findall(r"src=\"([^\"]+)\"", README)
    assert [link for link in links if not (root / link).exists()] == []
    tree = README.split("## The files")[1].split("\n\n")[1]
    folder = Path()
    for line in tree.splitlines():
        name = line.split()[0]
        path = folder / name if line.startswith("      ") else Path(name)
        folder = path if line.strip() == name else folder
        assert (root / path).exists(), path
