"""Video and sound -> a trained LipSound2 model: the task of pre-training and fine-tuning."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pystoi import stoi
from torch import Tensor, nn

from lipsound2 import plots
from lipsound2.audio import griffin_lim
from lipsound2.config import MelLossConfig, ModelConfig
from lipsound2.data.dataset import Batch, ClipDataset, Example, Place, collate
from lipsound2.model import LipSound2, Prediction
from lipsound2.model.masks import length_mask
from lipsound2.training.correlation import envelope_correlation
from lipsound2.training.task import Validation


class MelTask:
    """Predict the log-mel of a clip's own sound from its silent video.

    Args:
        model: The model; statistics must be set.
        train: Training clips.
        val: Validation clips, not augmented.
        settings: Loss and scheduled sampling.
        batch_size: Of the validation.
    """

    name = "mel"

    def __init__(
        self, model: LipSound2, train: ClipDataset, val: ClipDataset, settings: MelLossConfig, batch_size: int = 16
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.train = train
        self.val = val
        self.settings = settings
        self.batch_size = batch_size

    def config(self) -> ModelConfig:
        """Give the model's configuration."""
        return self.model.config

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Pad and stack."""
        return collate(examples)

    def loss(
        self, model: nn.Module, batch: Batch, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute MSE before and after the postnet, plus the terms that the settings ask for."""
        share = self._sampling_share(epoch)
        rate = self.model.decoder.frames_per_step
        steps = -(-batch.mel.shape[-1] // rate)
        own = torch.rand(len(batch.keys), steps, generator=generator) < share
        predicted: Prediction = model(batch.video, batch.video_lengths, batch.mel, own.to(batch.mel.device))
        before, after = (self._squared_error(mel, batch).mean() for mel in (predicted.before, predicted.after))
        parts = {"before": before, "after": after}
        weight = self.settings.guided_weight * max(0.0, 1 - epoch / max(self.settings.guided_epochs, 1e-9))
        if weight > 0 and predicted.alignment is not None:
            parts["guided"] = weight * guided_attention(
                predicted.alignment,
                batch.mel_lengths / rate,
                batch.video_lengths,
                self.settings.guided_width,
            )
        if self.settings.correlation_weight > 0:
            true = batch.mel[..., : predicted.after.shape[-1]]
            likeness = envelope_correlation(true, predicted.after, batch.mel_lengths, self.train.audio)
            parts["correlation"] = self.settings.correlation_weight * (1 - likeness).mean()
        return torch.stack(list(parts.values())).sum(), parts

    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Run free, as at inference; the score is the mean squared error after the postnet."""
        rows: list[dict[str, float]] = []
        figures, sounds = {}, {}
        device = next(model.parameters()).device
        for start in range(0, len(self.val), self.batch_size):
            places = [Place(0, i) for i in range(start, min(start + self.batch_size, len(self.val)))]
            batch = collate([self.val[place] for place in places])
            batch = Batch(batch.keys, *(tensor.to(device) for tensor in batch[1:]))
            predicted: Prediction = model(batch.video, batch.video_lengths)
            rows += self._rows(predicted, batch)
            if show:
                waves = griffin_lim(predicted.after.float(), self.val.audio).cpu().numpy()
                for i, place in enumerate(places):
                    rows[place.clip] |= self._intelligibility(waves[i], place.clip)
                if start == 0:
                    frames = int(predicted.lengths[0])
                    mels = {"true": batch.mel[0], "before": predicted.before[0], "after": predicted.after[0]}
                    figures["mel"] = plots.mels({k: v[:, :frames].float().cpu().numpy() for k, v in mels.items()})
                    if predicted.alignment is not None:
                        figures["alignment"] = plots.alignment(predicted.alignment[0].float().cpu().numpy())
                    sounds["speech"] = waves[0]
        scalars = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        return Validation(scalars["error"], scalars, figures, sounds, self.val.audio.sample_rate)

    def _rows(self, predicted: Prediction, batch: Batch) -> list[dict[str, float]]:
        error = self._squared_error(predicted.after, batch)
        before = self._squared_error(predicted.before, batch)
        rows = [{"error": error[i].item(), "error before": before[i].item()} for i in range(len(batch.keys))]
        if predicted.alignment is not None:
            rate = self.model.decoder.frames_per_step
            for i, row in enumerate(rows):
                steps, times = -(-int(batch.mel_lengths[i]) // rate), int(batch.video_lengths[i])
                row["off diagonal"] = off_diagonal(predicted.alignment[i, :steps, :times])
        return rows

    def _intelligibility(self, wave: np.ndarray, index: int) -> dict[str, float]:
        true = self.val.wave(index).numpy()
        length = min(len(true), len(wave))
        rate = self.val.audio.sample_rate
        return {
            "STOI": float(stoi(true[:length], wave[:length], rate)),
            "ESTOI": float(stoi(true[:length], wave[:length], rate, extended=True)),
        }

    def _squared_error(self, mel: Float[Tensor, "batch mels frames"], batch: Batch) -> Float[Tensor, " batch"]:
        """Give each clip's mean squared error in units of the training data's variance."""
        mask = length_mask(batch.mel_lengths, mel.shape[-1])[:, None]
        squared = ((mel - batch.mel[..., : mel.shape[-1]]) / self.model.mel_std).square() * mask
        return squared.sum(dim=(1, 2)) / (batch.mel_lengths * mel.shape[1])

    def _sampling_share(self, epoch: float) -> float:
        start, end = self.settings.sampling_from, self.settings.sampling_to
        ramp = 1.0 if epoch >= end else max(0.0, (epoch - start) / (end - start))
        return self.settings.sampling_share * ramp


def guided_attention(
    alignment: Float[Tensor, "batch steps time"],
    steps: Float[Tensor, " batch"],
    times: Int[Tensor, " batch"],
    width: float,
) -> Float[Tensor, ""]:
    """Give the mean attention that lies off the diagonal (Tachibana et al. 2018, equation 5)."""
    step_count, time_count = alignment.shape[1:]
    step = torch.arange(step_count, device=alignment.device)[None] / steps[:, None]
    time = torch.arange(time_count, device=alignment.device)[None] / times[:, None]
    inside: Bool[Tensor, "batch steps time"] = (step < 1)[:, :, None] & (time < 1)[:, None]
    cost = 1 - torch.exp(-(step[:, :, None] - time[:, None]).square() / (2 * width**2))
    return (alignment * cost * inside).sum() / steps.sum()


def off_diagonal(alignment: Float[Tensor, "steps time"]) -> float:
    """Give the mean distance in video frames between where attention looks and where the sound is made."""
    steps, times = alignment.shape
    looked = alignment.float().argmax(dim=1).cpu().numpy()
    return float(np.abs(looked - np.arange(steps) * times / steps).mean())


def mel_statistics(data: ClipDataset, most: int = 500) -> tuple[Float[Tensor, " mels"], Float[Tensor, " mels"]]:
    """Measure mean and standard deviation of each mel bin over at most `most` clips."""
    chosen = np.linspace(0, len(data) - 1, min(len(data), most)).round().astype(int)
    frames = torch.cat([data.mel(int(index)) for index in chosen], dim=1)
    return frames.mean(dim=1), frames.std(dim=1).clamp(min=1e-3)
