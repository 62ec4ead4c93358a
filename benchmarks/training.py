"""Measure the stages of a training step: data, encoder, decoder, postnet, backward, optimiser.

    python benchmarks/training.py                        # all that this machine can run, a few minutes
    python benchmarks/training.py --sizes paper --batches 64 --device cuda
    python benchmarks/training.py --quick                # only check that everything runs

One table: for the `small` and the `paper` preset and each batch size, with the decoder's loop step by step (eager) and
as CUDA graphs where there is a GPU. Clips are synthetic, of 3 s, on the device, as with `on_device`. The stages are
measured one by one, synchronising the device after each; `step` is a whole update as in `lipsound2 pretrain`, without
synchronisation. The share of the peak counts the forward pass three times.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import lightning_fabric
import torch
from torch.utils.flop_counter import FlopCounterMode

from lipsound2.config import AugmentConfig, ModelConfig, paper, small
from lipsound2.data.augment import Change, Stack, Stretch, draw_jitter, seen_box, stack, vary
from lipsound2.model import LipSound2
from lipsound2.training.config import MelLossConfig, TrainConfig
from lipsound2.training.loop import Trainer
from lipsound2.training.tasks.lip2mel import MelTask

SECONDS = 3.0
COLUMNS = ("data", "encoder", "decoder", "postnet", "backward", "optimiser", "sum", "step")
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Peak FLOP/s in bfloat16, from the data sheets."""


class Clips:
    """Synthetic clips on a device, in place of a prepared folder."""

    def __init__(self, config: ModelConfig, count: int, device: torch.device) -> None:
        import numpy as np

        self.video, self.audio, self.augment = config.video, config.audio, AugmentConfig()
        self.box = seen_box(config.video, self.augment)
        self.lags: dict[str, int] = {}
        frames = round(SECONDS * config.video.fps)
        left, top, right, bottom = self.box
        shape = (frames, config.video.channels, bottom - top, right - left)
        rng = np.random.default_rng(0)
        self.clips = [
            Stretch(
                str(i),
                torch.randint(0, 255, shape, dtype=torch.uint8, device=device),
                0.1 * torch.randn(frames * config.audio.sample_rate // config.video.fps, device=device),
                Change(draw_jitter(self.augment, rng), frames - i % 6),
            )
            for i in range(count)
        ]
        self.lengths: list[int] = []

    def __len__(self) -> int:
        return len(self.clips)

    def batch(self) -> Stack:
        """Stack all clips."""
        return stack(self.clips, self.box, 15)

    def vary(self, stacked: Stack, device: torch.device) -> Any:
        """Augment them."""
        return vary(stacked, self.video, self.audio, device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure a training step.")
    parser.add_argument("--sizes", default="small,paper", help="presets")
    parser.add_argument("--batches", default="16,64", help="clips per step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bf16-mixed" if torch.cuda.is_available() else "32-true")
    parser.add_argument("--steps", type=int, default=5, help="steps, of which the median is reported")
    parser.add_argument("--quick", action="store_true", help="one step of batches of 2; the figures are meaningless")
    options = parser.parse_args()
    if options.quick:
        options.batches, options.steps, options.sizes = "2", 1, "small"
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {options.precision}, clips of {SECONDS:g} s, times in ms\n")
    print("| size | batch | decoder | " + " | ".join(COLUMNS) + " | times real time | of the peak | GB |")
    print("|" + "---|" * (len(COLUMNS) + 6))
    for size in options.sizes.split(","):
        for batch in options.batches.split(","):
            for graphs in (False, True) if options.device == "cuda" else (False,):
                row = measure(size, int(batch), graphs, options)
                print(f"| {size} | {batch} | {'graph' if graphs else 'eager'} | " + " | ".join(row) + " |", flush=True)


def measure(size: str, batch: int, graphs: bool, options: argparse.Namespace) -> list[str]:
    """Measure one row of the table."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    config = {"small": small, "paper": paper}[size]()
    fabric = lightning_fabric.Fabric(accelerator=options.device, devices=1, precision=options.precision)
    clips: Any = Clips(config, batch, fabric.device)
    model = LipSound2(config).train()
    model.decoder.graphs = graphs  # type: ignore[assignment]
    task = MelTask(model, clips, clips, MelLossConfig(sampling_to=0.0, guided_weight=0.0), batch)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(task, TrainConfig(epochs=10**6, batch_size=batch), None, fabric)
    stages = Stages(trainer, clips)
    for _ in range(3 if options.device == "cuda" else 1):
        trainer.update([clips.batch()])
    rows = [stages.run() for _ in range(options.steps)]
    times = [sorted(row[i] for row in rows)[len(rows) // 2] for i in range(6)]
    whole = clock(fabric.device, lambda: [trainer.update([clips.batch()]) for _ in range(options.steps)])
    step = whole / options.steps
    flops = stages.flops()
    peak = next((value for key, value in PEAKS.items() if key in torch.cuda.get_device_name()), 0) if graphs else 0
    share = f"{flops / (step * peak):.1%}" if peak else ""
    memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if options.device == "cuda" else ""
    figures = [f"{1000 * value:.0f}" for value in (*times, sum(times), step)]
    return [*figures, f"{batch * SECONDS / step:.0f}", share, memory]


class Stages:
    """One update, stage by stage."""

    def __init__(self, trainer: Trainer, clips: Any) -> None:
        self.trainer = trainer
        self.clips = clips
        self.device = trainer.fabric.device

    def run(self) -> list[float]:
        """Return the seconds of each stage."""
        task, model, fabric = self.trainer.task, self.trainer.task.model, self.trainer.fabric
        kept: dict[str, Any] = {}

        def keep(name: str, make: Callable[[], Any]) -> float:
            return clock(self.device, lambda: kept.update({name: make()}))

        times = [keep("batch", lambda: task.ready(self.clips.batch(), self.device))]
        batch = kept["batch"]
        own = torch.ones(len(batch.keys), batch.mel.shape[2], dtype=torch.bool)
        with fabric.autocast():
            times.append(keep("memory", lambda: model.encode(batch.video, batch.video_lengths)))
            times.append(keep("decoded", lambda: model.decode(kept["memory"], batch.mel, own)))
            times.append(keep("after", lambda: model.polish(kept["decoded"].mel, batch.mel_lengths)))
        frames = kept["after"].shape[2]
        reference = model.normalize(batch.mel[..., :frames])
        before, after = kept["decoded"].mel - reference, kept["after"] - reference
        loss = before.square().mean() + after.square().mean()
        times.append(clock(self.device, lambda: fabric.backward(loss)))
        times.append(clock(self.device, self.trainer.apply))
        return times

    def flops(self) -> float:
        """Return the FLOPs of a forward and backward pass."""
        task, model = self.trainer.task, self.trainer.task.model
        batch = task.ready(self.clips.batch(), self.device)
        graphs, model.decoder.graphs = model.decoder.graphs, False
        recorded, model.decoder.recorded = model.decoder.recorded, None
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(batch.video, batch.video_lengths, batch.mel, None)
        model.decoder.graphs, model.decoder.recorded = graphs, recorded
        return 3.0 * counter.get_total_flops()


def clock(device: torch.device, run: Callable[[], Any]) -> float:
    """Return the seconds until a function's work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
