"""Audio and its mel -> a trained WaveGlow: the task of `lipsound2 vocoder train` and `finetune`."""

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
from lipsound2.vocoder.waveglow import Inversions, WaveGlow, negative_log_likelihood

VALIDATED = 64
"""Number of clips, spread evenly, whose loss on a segment is validated."""

PARTS = ("likelihood", "spectral")
"""Parts of the loss."""

_PIECE = 16


class VocoderTask(Task[Segment]):
    """Train a WaveGlow by likelihood and, optionally, by spectral distance of generated audio.

    Args:
        model: The model.
        train: Training clips.
        val: Validation clips.
        settings: Settings of the loss.
        synthesised: Number of validation clips, spread evenly, that are synthesised at each validation.
        autocast: Context in which the networks compute.
        graphs: Whether steps are captured as CUDA graphs with a GPU and one process.
        record: Another way of capturing them, as in `runtime.graphs`.
    """

    model: WaveGlow
    train: SegmentDataset

    legend = (
        "loss: nats a 16-bit sample of the validation clips, plus the spectral distance if one is set; mel error: mean "
        "absolute difference of log-mel; lower is better"
    )

    def __init__(
        self,
        model: WaveGlow,
        train: SegmentDataset,
        val: SegmentDataset,
        settings: VocoderLossConfig,
        synthesised: int = 4,
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
        self.synthesised = spread(clips, synthesised)
        self.autocast = autocast
        self.graphs = graphs
        self.recorded = self._recorded(record) if record else None

    def config(self) -> WaveGlowConfig:
        """Return the model's configuration."""
        return self.model.config

    @property
    def collate(self) -> Callable[[Sequence[Place]], list[Place]]:
        """Lists the places; `ready` draws their segments on the device, all at once."""
        return list

    def ready(self, batch: list[Place], device: torch.device) -> Segment:
        """Draw the segments of a batch on the device, all at once."""
        return self.train.draw(batch)

    def seconds(self, batch: Segment) -> float:
        """Return the seconds of audio in a batch."""
        return batch.wave.numel() / self.train.audio.sample_rate

    def loss(
        self, model: nn.Module, batch: Segment, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the negative log-likelihood and, optionally, the spectral distance of generated audio."""
        inputs = self._inputs(self.model, batch, generator)
        if self.recorded is None and self.graphs and batch.wave.is_cuda and not _shared(model):
            self.recorded = self._recorded(cuda_graphs())
        values = self.recorded(*inputs, training=True) if self.recorded else self._computed(model, *inputs)
        return torch.stack(values).sum(), dict(zip(PARTS, values, strict=False))

    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Measure the loss on segments, and metrics of fewer whole clips; the score is the loss."""
        assert isinstance(model, WaveGlow)
        device = model.upsample.weight.device
        scalars, vocoder = self._losses(model), WaveGlowVocoder(model)
        generated = {clip: vocoder(self._mel(clip).to(device)).cpu() for clip in self.synthesised}
        rows = [self._scores(clip, wave) for clip, wave in generated.items()]
        scalars |= {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        first = self.synthesised[0]
        mels = {
            "reference": self.val.recording(first).mel,
            "generated": log_mel(generated[first][None], self.val.audio)[0],
        }
        if not show:
            return Validation(scalars["loss"], scalars)
        figures = {"mel": plots.mels({name: mel.numpy() for name, mel in mels.items()}, self.val.audio)}
        sounds = {f"speech {clip}": wave.clamp(-1, 1).numpy() for clip, wave in generated.items()}
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
        """List the inputs of a step, on the device."""
        inputs = [*segment, *model.inversions()]
        return [*inputs, self._noise(segment, generator)] if self.settings.spectral_weight else inputs

    def _computed(self, model: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the parts of the loss."""
        wave, mel, past, inverses, log_dets, *noise = inputs
        with self.autocast():
            flowed = model(wave, mel, past, noise[0] if noise else None, Inversions(inverses, log_dets))
        # Nats per 16-bit sample, which has 65,536 values, so never negative.
        likelihood = negative_log_likelihood(flowed, self.settings.sigma) - log(STEP)
        if flowed.generated is None:
            return (likelihood,)
        distance = spectral_distance(flowed.generated.float(), flowed.seen.float())
        return likelihood, self.settings.spectral_weight * distance

    def _noise(self, segment: Segment, generator: torch.Generator) -> Tensor:
        config, device = self.model.config, segment.mel.device
        shape = (len(segment.mel), config.group, segment.mel.shape[2] * config.steps_per_frame)
        if device.type != "cpu":
            # Drawn on the device, seeded by the given generator.
            seed = int(torch.randint(2**62, (1,), generator=generator))
            generator = torch.Generator(device).manual_seed(seed)
        return config.sigma * torch.randn(shape, generator=generator, device=device)

    def _mel(self, clip: int) -> Tensor:
        return self.val.generated_mel(clip) if self.val.generated else self.val.recording(clip).mel

    def _scores(self, clip: int, generated: Tensor) -> dict[str, float]:
        reference, rate = self.val.recording(clip).wave, self.val.audio.sample_rate
        error = (log_mel(generated[None], self.val.audio)[0] - self.val.recording(clip).mel).abs().mean()
        return {
            "mel error": error.item(),
            "STOI": float(stoi(reference.numpy(), generated.numpy(), rate)),
            "ESTOI": float(stoi(reference.numpy(), generated.numpy(), rate, extended=True)),
        }


def _shared(model: nn.Module) -> bool:
    """Return whether a model is wrapped for several processes and must be called as a whole."""
    return any(isinstance(part, nn.parallel.DistributedDataParallel) for part in model.modules())
