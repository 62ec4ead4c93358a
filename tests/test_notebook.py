"""The notebook runs from top to bottom, and is kept without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ipykernel")
pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parents[1] / "examples" / "lipsound2.ipynb"
RUN = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(book, timeout=240, kernel_name="here").execute()
nbformat.write(book, "run.ipynb")
"""


def told(book: dict, kind: str) -> str:
    outputs = [output for cell in book["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", output.get("data", {}).get(kind, ""))) for output in outputs)


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    kernel = tmp_path / "jupyter" / "kernels" / "here"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "here", "language": "python"}))
    own = {"JUPYTER_PATH": str(tmp_path / "jupyter"), "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-c", RUN, str(NOTEBOOK)]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    book = json.loads((tmp_path / "run.ipynb").read_text(encoding="utf-8"))
    text = told(book, "text/plain")
    assert "hypothesis: place red by h eight soon" in text
    assert float(text.split("STOI ")[1].split()[0]) > 0.7
    assert "<audio" in told(book, "text/html")
    assert told(book, "image/png")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".wav", ".mp4", ".png", ".txt", ".srt", ".json"}


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
