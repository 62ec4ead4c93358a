"""Sound and its mel -> a trained WaveGlow: the task of `lipsound2 vocoder train` and `finetune`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import log
from typing import Any

import numpy as np
import torch
from pystoi import stoi
from torch import Tensor, nn

from lipsound2 import plots
from lipsound2.audio import log_mel
from lipsound2.corpora.clip import spread
from lipsound2.data.dataset import Place
from lipsound2.runtime.graphs import Record, Recorded, cuda_graphs
from lipsound2.training.losses import spectral_distance
from lipsound2.training.segments import STEP, Segment, SegmentDataset
from lipsound2.training.task import Task, Validation
from lipsound2.vocoder.config import VocoderLossConfig, WaveGlowConfig
from lipsound2.vocoder.synthesis import WaveGlowVocoder
from lipsound2.vocoder.waveglow import Inversions, WaveGlow, surprise

VALIDATED = 64
"""Clips, spread evenly, of each of which a validation measures the loss of a segment."""

PARTS = ("likelihood", "spectral")
"""Of the loss."""

_PIECE = 16


class VocoderTask(Task[Segment]):
    """Learn to turn sound into noise and, if asked for, noise into sound.

    Args:
        model: The model.
        train: Training clips.
        val: Validation clips.
        settings: What is taught.
        heard: Validation clips, spread evenly, that are made sound of at each validation.
        autocast: Context in which the networks compute.
        graphs: Whether steps are recorded as CUDA graphs where there is a GPU, and one process.
        record: How else they are recorded, as `runtime.graphs` says.
    """

    model: WaveGlow
    train: SegmentDataset

    def __init__(
        self,
        model: WaveGlow,
        train: SegmentDataset,
        val: SegmentDataset,
        settings: VocoderLossConfig,
        heard: int = 4,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        graphs: bool = True,
        record: Record | None = None,
    ) -> None:
        self.model = model
        self.train = train
        self.val = val
        self.settings = settings
        clips = list(range(len(val.entries)))
        self.validated = spread(clips, VALIDATED)
        self.heard = spread(clips, heard)
        self.autocast = autocast
        self.graphs = graphs
        self.recorded = self._recorded(record) if record else None

    def config(self) -> WaveGlowConfig:
        """Return the model's configuration."""
        return self.model.config

    def collate(self, examples: Sequence[Place]) -> list[Place]:
        """List the places; `ready` draws their segments on the device, all at once."""
        return list(examples)

    def ready(self, batch: list[Place], device: torch.device) -> Segment:
        """Draw the segments of a batch on the device, all at once."""
        return self.train.draw(batch)

    def seconds(self, batch: Segment) -> float:
        """Return how many seconds of sound a batch holds."""
        return batch.wave.numel() / self.train.audio.sample_rate

    def loss(
        self, model: nn.Module, batch: Segment, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the negative log-likelihood and, if asked for, the spectral distance of what is made."""
        inputs = self._inputs(self.model, batch, generator)
        if self.recorded is None and self.graphs and batch.wave.is_cuda and not _shared(model):
            self.recorded = self._recorded(cuda_graphs())
        values = self.recorded(*inputs, training=True) if self.recorded else self._computed(model, *inputs)
        return torch.stack(values).sum(), dict(zip(PARTS, values, strict=False))

    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Measure the loss on a segment of some clips, and the sound of fewer whole clips; the score is the loss."""
        assert isinstance(model, WaveGlow)
        device = model.upsample.weight.device
        scalars, vocoder = self._losses(model), WaveGlowVocoder(model)
        made = {clip: vocoder(self._mel(clip).to(device)).cpu() for clip in self.heard}
        rows = [self._scores(clip, wave) for clip, wave in made.items()]
        scalars |= {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        first = self.heard[0]
        mels = {"true": self.val.heard(first).mel, "made": log_mel(made[first][None], self.val.audio)[0]}
        if not show:
            return Validation(scalars["loss"], scalars)
        figures = {"mel": plots.mels({name: mel.numpy() for name, mel in mels.items()})}
        sounds = {f"speech {clip}": wave.clamp(-1, 1).numpy() for clip, wave in made.items()}
        return Validation(scalars["loss"], scalars, figures, sounds, self.val.audio.sample_rate)

    def _recorded(self, record: Record) -> Recorded:
        return Recorded(partial(self._computed, self.model), lambda: list(self.model.parameters()), record)

    def _losses(self, model: WaveGlow) -> dict[str, float]:
        generator, sums = torch.Generator().manual_seed(0), dict[str, float]()
        for start in range(0, len(self.validated), _PIECE):
            places = [Place(0, clip) for clip in self.validated[start : start + _PIECE]]
            values = self._computed(model, *self._inputs(model, self.val.draw(places), generator))
            for name, value in zip(PARTS, values, strict=False):
                sums[name] = sums.get(name, 0.0) + value.item() * len(places) / len(self.validated)
        return sums | {"loss": sum(sums.values())}

    def _inputs(self, model: WaveGlow, segment: Segment, generator: torch.Generator) -> list[Tensor]:
        """List what a step depends on, on the device."""
        inputs = [*segment, *model.inversions()]
        return [*inputs, self._noise(segment, generator)] if self.settings.spectral_weight else inputs

    def _computed(self, model: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the parts of the loss."""
        wave, mel, past, inverses, log_dets, *noise = inputs
        with self.autocast():
            flowed = model(wave, mel, past, noise[0] if noise else None, Inversions(inverses, log_dets))
        # Nats that say which of the 65,536 values a sample has, so never less than none.
        likelihood = surprise(flowed, self.settings.sigma) - log(STEP)
        if flowed.made is None:
            return (likelihood,)
        distance = spectral_distance(flowed.made.float(), flowed.seen.float())
        return likelihood, self.settings.spectral_weight * distance

    def _noise(self, segment: Segment, generator: torch.Generator) -> Tensor:
        config, device = self.model.config, segment.mel.device
        shape = (len(segment.mel), config.group, segment.mel.shape[2] * config.steps_per_frame)
        if device.type != "cpu":
            # Drawn where it is needed; of the same source.
            seed = int(torch.randint(2**62, (1,), generator=generator))
            generator = torch.Generator(device).manual_seed(seed)
        return config.sigma * torch.randn(shape, generator=generator, device=device)

    def _mel(self, clip: int) -> Tensor:
        return self.val.generated_mel(clip) if self.val.generated else self.val.heard(clip).mel

    def _scores(self, clip: int, made: Tensor) -> dict[str, float]:
        true, rate = self.val.heard(clip).wave, self.val.audio.sample_rate
        error = (log_mel(made[None], self.val.audio)[0] - self.val.heard(clip).mel).abs().mean()
        return {
            "mel error": error.item(),
            "STOI": float(stoi(true.numpy(), made.numpy(), rate)),
            "ESTOI": float(stoi(true.numpy(), made.numpy(), rate, extended=True)),
        }


def _shared(model: nn.Module) -> bool:
    """Tell whether several processes train a model, which then has to be called as a whole."""
    return any(isinstance(part, nn.parallel.DistributedDataParallel) for part in model.modules())
