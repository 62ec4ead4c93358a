"""The README's commands and code run as they stand, on small data and for one epoch."""

import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from test_packs import pack, run

from lipsound2.corpora.folder import find_videos

__all__ = ["pack", "run"]
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = {"pretrain": ["--epochs", "1", "--batch-size", "2"], "finetune": ["--epochs", "1", "--batch-size", "2"]}


def shell_lines(heading: str) -> list[str]:
    """Return the indented command lines below a heading, without comments."""
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
    names = {"clip.wav", "clip.mp4", "clip.png", "other.wav", "clip.txt", "clip.srt"}
    assert {path.name for path in (newcomer / "out").iterdir()} >= names


def test_five_lines_of_python(newcomer):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=newcomer, check=True)
    assert (newcomer / "out" / "clip.wav").is_file()


def test_train_your_own(newcomer):
    lines = shell_lines("Train your own")
    assert len(lines) == 4
    shutil.rmtree(newcomer / "out", ignore_errors=True)
    for line in lines:
        call(line, newcomer)


def test_what_the_readme_points_at_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)", README) + re.findall(r"src=\"([^\"]+)\"", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
    (tree,) = re.findall(r"^(    src/lipsound2/\n(?:    .*\n)+)", README, flags=re.MULTILINE)
    folder = Path()
    for line in tree.splitlines():
        name = line.split()[0]
        path = folder / name if line.startswith("      ") else Path(name)
        folder = path if line.strip() == name else folder
        assert (ROOT / path).exists(), path


def test_the_sections_come_in_their_order():
    found = re.findall(r"^## (.*)$", README, flags=re.MULTILINE)
    wanted = ["Install", "One command", "Python", "Results", "Train your own", "How it works", "Limits"]
    assert found[: len(wanted)] == wanted
    assert "misuse" in found[len(wanted)]


def test_the_tree_names_every_part_of_the_package():
    package = ROOT / "src" / "lipsound2"
    parts = {path.name + "/" * path.is_dir() for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    listed = set(re.findall(r"^      ([\w.]+/?) ", README, flags=re.MULTILINE))
    assert parts - {"__init__.py", "__main__.py", "__pycache__/"} == listed


def test_the_figure_names_files_that_exist():
    figure = (ROOT / "docs" / "images" / "network.svg").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:model/)?\w+\.py|\w+/(?=<)", figure))
    assert len(named) >= 10
    assert [name for name in named if not (ROOT / "src" / "lipsound2" / name).exists()] == []


def test_the_split_of_the_pack_has_the_clips_that_the_results_are_of():
    lines = (ROOT / "recipes" / "grid-s1-splits.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "clip,split"
    assert Counter(line.split(",")[1] for line in lines[1:]) == {"train": 850, "val": 40, "test": 50}


@pytest.mark.parametrize("document", ["glossary", "architecture", "extending"])
def test_the_files_and_functions_that_a_document_names_exist(document):
    """`path/name.py` is a file of the package or of the repository, `path/name.py:function` is in it."""
    text = (ROOT / "docs" / f"{document}.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/.]+\.py)(?::([\w.]+))?`", text)
    assert named
    lost = []
    for name, function in named:
        found = [root / name for root in (ROOT / "src" / "lipsound2", ROOT) if (root / name).is_file()]
        last = function.split(".")[-1]
        if not found or (last and not re.search(rf"(def|class) {last}\b", found[0].read_text(encoding="utf-8"))):
            lost.append(f"{name}:{function}")
    assert lost == []
