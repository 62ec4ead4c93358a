"""Speed, size and differences of an exported pack against torch, as the table of docs/export.md.

    python benchmarks/export.py grid-s1 --threads 2
    python benchmarks/export.py grid-s1 --clips GRID/s1 --splits recipes/grid-s1-splits.csv

The quickest of some runs over the same input: a window of video, as much audio. With clips of GRID: STOI of those of
the test split, spoken by the pack's own vocoder, and WER of the recogniser of the same backend, as `read` does. Graphs
go to a temporary folder.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pystoi import stoi

from lipsound2 import media
from lipsound2.audio import resample
from lipsound2.corpora.grid import sentence
from lipsound2.export.backend import OnnxJasper, OnnxLips, OnnxWaveGlow
from lipsound2.export.write import export
from lipsound2.inference.pipeline import load
from lipsound2.inference.recognizers import choose
from lipsound2.packs import Pack, find_pack
from lipsound2.recognizer.beam import BeamConfig
from lipsound2.recognizer.transcriber import load_jasper
from lipsound2.text.alphabet import error_rates
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
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--splits", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    pack = find_pack(asked.pack)
    with tempfile.TemporaryDirectory() as name:
        folders = {"onnx float32": Path(name) / "float32", "onnx int8": Path(name) / "int8"}
        for kind, folder in folders.items():
            export(pack, folder, int8=kind.endswith("int8"))
        if asked.clips:
            judge(pack, folders, asked.clips, asked.splits)
            return
        with torch.no_grad():
            rows = list(compare(pack, folders, asked.runs))
    print("| part | backend | MB | seconds | largest difference |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.part} | {row.backend} | {row.megabytes:.1f} | {row.seconds:.3f} | {row.difference:.2g} |")


def judge(pack: Pack, folders: dict[str, Path], videos: Path, splits: Path) -> None:
    """Print STOI and WER of clips of the test split on each backend; faces are found once."""
    rows = csv.DictReader(splits.open(encoding="utf-8"))
    clips = [videos / f"{Path(row['clip']).name}.mkv" for row in rows if row["split"] == "test"]
    speakers = {"torch float32": load(pack.folder, device="cpu")}
    speakers |= {name: load(folder, backend="onnx") for name, folder in folders.items()}
    beam, folder = BeamConfig(), pack.recognizer
    readers = {name: choose("jasper", folder, beam=beam, exported=folders.get(name)) for name in speakers}
    scores: dict[str, list[float]] = {name: [] for name in speakers}
    pairs: dict[str, list[tuple[str, str]]] = {name: [] for name in speakers}
    for clip in clips:
        sighting = speakers["torch float32"].look(clip)
        for name, speaker in speakers.items():
            speech = next(speaker.speak_each(clip, "largest", sighting=sighting))
            reference = media.read_audio(clip, speech.sample_rate)
            size = min(len(reference), len(speech.wave))
            scores[name].append(stoi(reference[:size], speech.wave[:size], speech.sample_rate))
            heard = readers[name].transcribe(resample(speech.wave, speech.sample_rate, readers[name].sample_rate))
            pairs[name].append((sentence(clip.stem), heard.text))
        print(clip.stem, *(f"{each[-1]:.3f} {pairs[name][-1][1]!r}" for name, each in scores.items()), flush=True)
    print("| backend | STOI | WER |\n|---|---|---|")
    for name, each in scores.items():
        print(f"| {name} | {np.mean(each):.4f} | {100 * error_rates(pairs[name]).wer:.1f} % |")


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
