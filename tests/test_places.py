"""`speak` and `read` need no home, no known user, no writable folder but their output, and no UTF-8."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lipsound2

EXAMPLE = Path(__file__).parents[1] / "examples" / "prbh8s.mp4"
CACHING = ("joblib", "scipy", "librosa", "matplotlib", "numba", "pooch", "torch._inductor", "torch.utils.tensorboard")
"""Packages that keep a cache on the disk or are slow to import, none of which these commands need."""


def unknown_user() -> list[str]:
    """Words before a command that run it as a user whom the system does not know, where that can be done."""
    if sys.platform != "linux" or os.getuid() or not shutil.which("setpriv"):
        return []
    # It may read the interpreter, wherever that lies, but write only what is its own.
    capability = "+dac_read_search"
    return ["setpriv", "--reuid=12345", "--clear-groups", "--inh-caps", capability, "--ambient-caps", capability]


@pytest.mark.skipif(os.name == "nt", reason="a folder that nobody can write, and user ids")
def test_speaks_and_reads_without_home_user_or_utf8(tmp_path_factory):
    folder = Path(os.path.realpath(tmp_path_factory.mktemp("out")))
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o777)
    code = (
        "import sys; sys.argv[0] = 'lipsound2'\n"
        "from lipsound2.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {CACHING} if name in sys.modules], file=sys.stderr)"
    )
    environment = {
        "HOME": "/proc/nobody",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(lipsound2.__file__).parents[1]),
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    target = folder / "日本 out"
    video = folder / EXAMPLE.name
    shutil.copyfile(EXAMPLE, video)
    command = [*unknown_user(), sys.executable, "-c", code, "speak", str(video), "--text", "-o", str(target)]
    done = subprocess.run(command, cwd="/proc", env=environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(path.suffix for path in target.iterdir() if not path.name.startswith(".")) == [
        ".mp4",
        ".png",
        ".srt",
        ".txt",
        ".wav",
    ]
    assert (target / "prbh8s.txt").read_text() == "place red by h eight soon\n"
    assert done.stderr.decode().splitlines()[-1] == "[]"
    assert b"arning" not in done.stderr
