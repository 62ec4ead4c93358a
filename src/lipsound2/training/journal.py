"""What a training has to tell -> TensorBoard's logs, and a line of `metrics.jsonl` for each validation."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from lipsound2.training.task import Validation


class Journal:
    """Written by one process of a run.

    Args:
        run: Folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self.metrics = run / "metrics.jsonl"
        self.writer = SummaryWriter(run / "logs")

    def losses(self, means: Mapping[str, float], step: int) -> None:
        """Log means of the last updates."""
        for name, value in means.items():
            self.writer.add_scalar(f"train/{name}", value, step)

    def validation(self, found: Validation, epoch: int, step: int, speed: Mapping[str, float]) -> None:
        """Log what a validation found, and how fast the training is."""
        for name, value in found.scalars.items():
            self.writer.add_scalar(f"val/{name}", value, step)
        for name, figure in found.figures.items():
            self.writer.add_figure(name, figure, step)
        for name, wave in found.sounds.items():
            self.writer.add_audio(name, torch.from_numpy(wave)[None], step, found.sample_rate)
        record = {"epoch": epoch, "step": step, "score": found.score, **found.scalars, **speed}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Finish the logs."""
        self.writer.close()
