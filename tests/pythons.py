"""A wheel -> a fresh environment of every other supported Python at hand, in which the commands are tried.

    python tests/pythons.py [3.12 3.13 ...]

Takes minutes and gigabytes for each Python, since pip fetches all dependencies as a user's would; `make test` leaves it
out. Pythons are looked for on the PATH and where pyenv and uv keep theirs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "prbh8s-silent.mp4"
SAID = (ROOT / "examples" / "prbh8s.txt").read_text(encoding="utf-8")


def main() -> None:
    """Try every Python that is supported and at hand, other than the one that runs this."""
    wanted = sys.argv[1:] or [version for version in supported() if version != "{}.{}".format(*sys.version_info)]
    found = {version: path for version in wanted if (path := find(version))}
    for version in wanted:
        if version not in found:
            print(f"{version}: not on this machine")
    if sys.argv[1:] and len(found) < len(wanted):
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        failed = [version for version, python in found.items() if not tried(version, python, wheel, Path(folder))]
    sys.exit(f"failed on {', '.join(failed)}" if failed else 0)


def supported() -> list[str]:
    """List the versions that the package's classifiers name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [line.rsplit(" ", 1)[1] for line in project["classifiers"] if line.startswith("Programming Language :: Py")]
    return [name for name in names if "." in name]


def find(version: str) -> Path | None:
    """Find an interpreter of a version that starts."""
    for candidate in candidates(version):
        code = "import sys, venv; print('{}.{}'.format(*sys.version_info))"
        try:
            done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if done.stdout.strip() == version:
            return candidate
    return None


def candidates(version: str) -> Iterator[Path]:
    """List where an interpreter of a version may lie."""
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield Path(on_path)
    for folder in (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python"):
        yield from sorted(folder.glob(f"*{version}.*/bin/python3"), reverse=True)


def build(folder: Path) -> Path:
    """Build the wheel as it would be uploaded."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


def tried(version: str, python: Path, wheel: Path, folder: Path) -> bool:
    """Install the wheel and try the commands; say what became of each."""
    start = time.monotonic()
    environment = folder / version
    subprocess.run([python, "-m", "venv", environment], check=True)
    binaries = environment / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([binaries / "python", "-m", "pip", "install", "-q", wheel], check=True)
    print(f"{version}: installed in {time.monotonic() - start:.0f} s", flush=True)
    work = folder / f"work with {version}"
    videos = work / "my videos" / "a speaker"
    videos.mkdir(parents=True)
    shutil.copy(EXAMPLE, work / "my clip.mp4")
    for clip in (ROOT / "examples").glob("*[0-9][a-z].mp4"):
        shutil.copy(clip, videos)
        shutil.copy(clip.with_suffix(".txt"), videos)
    command = binaries / "lipsound2"
    good = [
        called(version, work, command, "doctor"),
        called(version, work, command, "speak", "my clip.mp4", "-o", "spoken"),
        called(version, work, command, "read", "my clip.mp4", "-o", "read", "-f", "txt,srt,vtt,json"),
        called(version, work, command, "prepare", "folder", "my videos", "-o", "prepared", "--workers", "1"),
    ]
    written = {path.suffix for path in (work / "spoken").glob("my clip.*")}
    text = work / "read" / "my clip.txt"
    good += [
        said(version, "speak wrote sound, video and picture", written == {".wav", ".mp4", ".png"}),
        said(version, "read wrote what was said", text.is_file() and text.read_text(encoding="utf-8") == SAID),
        said(version, "prepare kept every clip", _samples(work / "prepared" / "index.jsonl") == 3),
    ]
    shutil.rmtree(environment)
    return all(good)


def called(version: str, folder: Path, *command: str | Path) -> bool:
    """Run a command, with warnings shown, and print what it printed if it failed."""
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)
    good = done.returncode == 0 and "Traceback" not in done.stderr
    if not good:
        print(done.stdout, done.stderr)
    return said(version, f"{' '.join(map(str, command[1:]))} ({time.monotonic() - start:.1f} s)", good)


def said(version: str, what: str, good: bool) -> bool:
    """Print one result."""
    print(f"{version}: {'ok ' if good else 'NO '} {what}", flush=True)
    return good


def _samples(index: Path) -> int:
    return len(index.read_text(encoding="utf-8").splitlines()) if index.is_file() else 0


if __name__ == "__main__":
    main()
