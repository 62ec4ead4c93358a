"""Speed, size and differences of an exported pack against torch, as the table of docs/export.md.

    python benchmarks/export.py grid-s1 --threads 2

The quickest of some runs over the same input: a window of video, as much audio. Graphs go to a temporary folder.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lipsound2.export.backend import OnnxJasper, OnnxLips, OnnxWaveGlow
from lipsound2.export.write import export
from lipsound2.packs import find_pack
from lipsound2.recognizer.transcriber import load_jasper
from lipsound2.vocoder.synthesis import load_waveglow


class Row(NamedTuple):
    """A part on a backend."""

    part: str
    backend: str
    megabytes: float
    seconds: float
    difference: float


def measured(run: Callable[[], torch.Tensor], runs: int) -> tuple[torch.Tensor, float]:
    """Return the output and the least of the seconds."""
    output, times = run(), []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return output, min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    pack = find_pack(asked.pack)
    with tempfile.TemporaryDirectory() as name:
        folders = {"onnx float32": Path(name) / "float32", "onnx int8": Path(name) / "int8"}
        for kind, folder in folders.items():
            export(pack, folder, int8=kind.endswith("int8"))
        with torch.no_grad():
            rows = list(compare(pack, folders, asked.runs))
    print("| part | backend | MB | seconds | largest difference |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.part} | {row.backend} | {row.megabytes:.1f} | {row.seconds:.3f} | {row.difference:.2g} |")


def compare(pack, folders: dict[str, Path], runs: int):  # noqa: ANN001, ANN201
    """Yield the rows."""
    model = pack.load_model()
    frames, video = model.config.window, model.config.video
    generator = torch.Generator().manual_seed(0)
    shape = (1, video.channels, frames, video.size, video.size)
    views = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    lengths = torch.tensor([frames])
    mel = model(views, lengths).after
    wave = np.random.default_rng(0).standard_normal(frames * model.config.audio.sample_rate // video.fps) / 10
    wave = wave.astype(np.float32)
    parts = {"lips": (model, OnnxLips, lambda it: it(views, lengths).after, ("encoder", "decoder", "postnet"))}
    if pack.waveglow:
        flow = load_waveglow(pack.waveglow)
        noise = 0.6 * torch.randn(1, flow.config.group, mel.shape[2] * flow.config.steps_per_frame, generator=generator)
        parts["WaveGlow"] = (flow, OnnxWaveGlow, lambda it: it.unflow(mel, noise), ("waveglow",))
    if pack.recognizer:
        jasper = load_jasper(pack.recognizer)
        parts["Jasper"] = (jasper, OnnxJasper, lambda it: torch.from_numpy(it.listen(wave)), ("recognizer",))
    for part, (own, kind, run, graphs) in parts.items():
        size = sum(4 * weight.numel() for weight in own.state_dict().values()) / 1e6
        wanted, seconds = measured(lambda own=own, run=run: run(own), runs)
        yield Row(part, "torch float32", size, seconds, 0)
        for backend, folder in folders.items():
            loaded = kind(folder)
            found, seconds = measured(lambda loaded=loaded, run=run: run(loaded), runs)
            size = sum((folder / f"{graph}.onnx").stat().st_size for graph in graphs) / 1e6
            yield Row(part, backend, size, seconds, float((found - wanted).abs().max()))


if __name__ == "__main__":
    main()
