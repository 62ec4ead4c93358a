"""Trace one clip to a batch and one mel to a waveform, and print the functions of the package that are called.

    python benchmarks/walk.py            # counts, as in docs/architecture.md
    python benchmarks/walk.py --list     # also the functions, in order of their first call, with callers

Each function is counted once; comprehensions and lambdas are not counted.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

import lipsound2
from lipsound2 import faces
from lipsound2.config import small
from lipsound2.corpora import read_folder
from lipsound2.data.dataset import ClipDataset, Place
from lipsound2.data.prepare import PrepareConfig, prepare
from lipsound2.data.recording import make_samples
from lipsound2.data.sample import SampleConfig

PACKAGE = Path(lipsound2.__file__).parent
EXAMPLES = Path(__file__).parents[1] / "examples"
_names: dict[CodeType, str] = {}


def follow(work: Callable[[], Any]) -> dict[str, str]:
    """Run `work` and return the package's functions that were called in this process, with their first callers."""
    found: dict[str, str] = {}

    def profile(frame: FrameType, event: str, _: object) -> None:
        name = _name(frame)
        if event == "call" and name and not name.endswith(">") and name not in found:
            caller = frame.f_back
            while caller is not None and not _name(caller):
                caller = caller.f_back
            found[name] = _name(caller) if caller is not None else ""

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def _name(frame: FrameType) -> str:
    code = frame.f_code
    if code not in _names:
        path = Path(code.co_filename)
        _names[code] = f"{path.relative_to(PACKAGE)}:{code.co_qualname}" if path.is_relative_to(PACKAGE) else ""
    return _names[code]


def walks(folder: Path) -> dict[str, dict[str, str]]:
    """Trace a clip and a mel, stage by stage, with the work of worker processes in this process."""
    corpus, prepared = folder / "corpus", folder / "prepared"
    (corpus / "train").mkdir(parents=True)
    for clip in EXAMPLES.glob("*[0-9a-z]s.mp4"):
        shutil.copy(clip, corpus / "train")
    detector, config, mel = faces.MtcnnDetector(), small(), torch.randn(80, 100) - 5
    first = next(iter(read_folder(corpus)))
    pipelines = {name: lipsound2.load("grid-s1", name) for name in ("griffin-lim", "waveglow")}
    return {
        "corpus to shards, main process": follow(
            lambda: prepare(read_folder(corpus), prepared, PrepareConfig(workers=1))
        ),
        "clip to sample, worker process": follow(lambda: list(make_samples(first, detector, SampleConfig()))),
        "shards to batch": follow(
            lambda: ClipDataset(prepared, "train", config.audio, config.video).load([Place(0, 0), Place(0, 0)])
        ),
        **{f"mel to waveform, {name}": follow(lambda p=each: p.vocode(mel)) for name, each in pipelines.items()},
    }


def main() -> None:
    """Print the walks."""
    parser = argparse.ArgumentParser(description="Print the functions that a clip and a mel pass through.")
    parser.add_argument("--list", action="store_true", help="print the functions, not only their number")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for title, found in walks(Path(folder)).items():
            files = {name.split(":")[0] for name in found}
            print(f"{title}: {len(found)} functions in {len(files)} files")
            for name, caller in found.items() if options.list else ():
                print(f"    {name:<58} {caller and '<- ' + caller}")


if __name__ == "__main__":
    main()
