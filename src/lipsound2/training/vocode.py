"""Sound and its mel -> a trained WaveGlow: the task of `lipsound2 vocoder train` and `finetune`."""

from collections.abc import Sequence
from math import log

import numpy as np
import torch
from pystoi import stoi
from torch import Tensor, nn

from lipsound2 import plots
from lipsound2.audio import log_mel
from lipsound2.data.dataset import Place
from lipsound2.training.segments import STEP, Segment, SegmentDataset, collate
from lipsound2.training.task import Task, Validation
from lipsound2.vocoder.config import VocoderLossConfig, WaveGlowConfig
from lipsound2.vocoder.spectral import spectral_distance
from lipsound2.vocoder.synthesis import WaveGlowVocoder
from lipsound2.vocoder.waveglow import Flowed, WaveGlow, surprise


class VocoderTask(Task[Segment]):
    """Learn to turn sound into noise and, if asked for, noise into sound.

    Args:
        model: The model.
        train: Training clips.
        val: Validation clips.
        settings: What is taught.
        heard: Validation clips that are made sound of at each validation.
    """

    model: WaveGlow

    def __init__(
        self,
        model: WaveGlow,
        train: SegmentDataset,
        val: SegmentDataset,
        settings: VocoderLossConfig,
        heard: int = 4,
    ) -> None:
        self.model = model
        self.train = train
        self.val = val
        self.settings = settings
        self.heard = min(heard, len(val))

    def config(self) -> WaveGlowConfig:
        """Give the model's configuration."""
        return self.model.config

    def collate(self, examples: Sequence[Segment]) -> Segment:
        """Stack."""
        return collate(examples)

    def loss(
        self, model: nn.Module, batch: Segment, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the negative log-likelihood and, if asked for, the spectral distance of what is made."""
        noise = self._noise(batch, generator) if self.settings.spectral_weight else None
        parts = self._parts(model(*batch, noise))
        return torch.stack(list(parts.values())).sum(), parts

    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Measure the loss on a segment of each clip, and the sound of some whole clips; the score is the loss."""
        assert isinstance(model, WaveGlow)
        device = model.upsample.weight.device
        # Half precision is for the model alone, which switches it on itself when it makes sound.
        with torch.autocast(device.type, enabled=False):
            segments = collate([self.val[Place(0, clip)] for clip in range(len(self.val))])
            segments = Segment(*(part.to(device) for part in segments))
        noise = self._noise(segments, torch.Generator().manual_seed(0)) if self.settings.spectral_weight else None
        scalars = {name: value.item() for name, value in self._parts(model(*segments, noise)).items()}
        scalars["loss"] = sum(scalars.values())
        with torch.autocast(device.type, enabled=False):
            vocoder = WaveGlowVocoder(model)
            made = [vocoder(self._mel(clip).to(device)).cpu() for clip in range(self.heard)]
            rows = [self._scores(clip, wave) for clip, wave in enumerate(made)]
            scalars |= {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
            mels = {"true": self.val.heard(0).mel, "made": log_mel(made[0][None], self.val.audio)[0]}
        if not show:
            return Validation(scalars["loss"], scalars)
        figures = {"mel": plots.mels({name: mel.numpy() for name, mel in mels.items()})}
        sounds = {f"speech {clip}": wave.clamp(-1, 1).numpy() for clip, wave in enumerate(made)}
        return Validation(scalars["loss"], scalars, figures, sounds, self.val.audio.sample_rate)

    def _parts(self, flowed: Flowed) -> dict[str, Tensor]:
        # Nats that say which of the 65,536 values a sample has, so never less than none.
        parts = {"likelihood": surprise(flowed, self.settings.sigma) - log(STEP)}
        if flowed.made is not None:
            distance = spectral_distance(flowed.made.float(), flowed.seen.float())
            parts["spectral"] = self.settings.spectral_weight * distance
        return parts

    def _noise(self, batch: Segment, generator: torch.Generator) -> Tensor:
        config = self.model.config
        shape = (len(batch.mel), config.group, batch.mel.shape[2] * config.steps_per_frame)
        return config.sigma * torch.randn(shape, generator=generator).to(batch.mel)

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
