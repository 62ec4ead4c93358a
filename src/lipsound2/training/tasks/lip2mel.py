"""Video and audio -> a trained LipSound2 model: the task of pre-training and fine-tuning."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from pystoi import stoi
from torch import Tensor, nn

from lipsound2 import plots
from lipsound2.audio import griffin_lim
from lipsound2.config import ModelConfig
from lipsound2.data.augment import Batch, Stack, Stretch
from lipsound2.data.dataset import ClipDataset, Place
from lipsound2.model import LipSound2, Prediction
from lipsound2.model.masks import length_mask
from lipsound2.training.config import MelLossConfig
from lipsound2.training.correlation import envelope_correlation
from lipsound2.training.lags import find_lags
from lipsound2.training.task import Task, Validation, share_out


class MelTask(Task[Batch]):
    """Predict the log-mel of a clip's own audio from its silent video.

    Args:
        model: The model, with mel statistics set.
        train: Training clips.
        val: Validation clips, not augmented.
        settings: Loss and scheduled sampling.
        batch_size: Batch size of the validation.
        best: Metric that selects the best checkpoint: `error`, the squared error, or `estoi`.
    """

    legend = (
        "error: mean squared error of the log-mel that is generated free-running, in units of the training data's "
        "variance; 1 is that of the mean mel, lower is better"
    )
    model: LipSound2
    train: ClipDataset

    def __init__(
        self,
        model: LipSound2,
        train: ClipDataset,
        val: ClipDataset,
        settings: MelLossConfig,
        batch_size: int = 16,
        best: str = "error",
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.train = train
        self.val = val
        self.settings = settings
        self.batch_size = batch_size
        self.best = best
        self.lag_due = settings.lag_from or inf

    def config(self) -> ModelConfig:
        """Return the model's configuration."""
        return self.model.config

    @property
    def collate(self) -> Callable[[Sequence[Stretch]], Stack]:
        """Pads and stacks."""
        return self.train.batch

    def ready(self, batch: Stack, device: torch.device) -> Batch:
        """Augment the clips and compute their mels on the training device."""
        return self.train.vary(batch, device)

    def lengths(self) -> list[int]:
        """Return the video frames of each training example."""
        return self.train.lengths

    def seconds(self, batch: Batch) -> float:
        """Return the seconds of video in a batch."""
        return float(batch.video_lengths.sum()) / self.train.video.fps

    def loss(
        self, model: nn.Module, batch: Batch, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute MSE before and after the postnet, plus the optional terms of the settings."""
        share = self._sampling_share(epoch)
        rate = self.model.decoder.frames_per_step
        steps = -(-batch.mel.shape[-1] // rate)
        own = torch.rand(len(batch.keys), steps, generator=generator) < share
        predicted: Prediction = model(batch.video, batch.video_lengths, batch.mel, own, batch.voices)
        device = batch.mel.device
        lengths = batch.mel_lengths.to(device, non_blocking=True)
        before, after = (self._squared_error(mel, batch.mel, lengths) for mel in (predicted.before, predicted.after))
        parts = {"before": before.mean(), "after": after.mean()}
        weight = self.settings.guided_weight * max(0.0, 1 - epoch / max(self.settings.guided_epochs, 1e-9))
        if weight > 0 and predicted.alignment is not None:
            times = batch.video_lengths.to(device, non_blocking=True)
            parts["guided"] = weight * guided_attention(
                predicted.alignment, lengths / rate, times, self.settings.guided_width
            )
        if self.settings.correlation_weight > 0:
            reference = batch.mel[..., : predicted.after.shape[-1]]
            likeness = envelope_correlation(reference, predicted.after, lengths, self.train.audio)
            parts["correlation"] = self.settings.correlation_weight * (1 - likeness).mean()
        return torch.stack(list(parts.values())).sum(), parts

    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Evaluate free-running, as at inference; each process takes its share of the clips.

        The score is the mean squared error after the postnet, or minus ESTOI.
        """
        figures: dict[str, Figure] = {}
        sounds: dict[str, np.ndarray] = {}
        device = next(model.parameters()).device
        synthesised = show or self.best == "estoi"

        def piece(number: int) -> dict[int, dict[str, float]]:
            places = range(number * self.batch_size, min((number + 1) * self.batch_size, len(self.val)))
            batch = self.val.load([Place(0, place) for place in places], device)
            predicted: Prediction = model(batch.video, batch.video_lengths, condition=batch.voices)
            found = self._rows(predicted, batch)
            if synthesised:
                waves = griffin_lim(predicted.after.float(), self.val.audio).cpu().numpy()
                for row, wave, place in zip(found, waves, places, strict=True):
                    row |= self._intelligibility(wave, place)
                if show and number == 0:
                    figures.update(self._shown(predicted, batch))
                    sounds["speech"] = waves[0]
            return dict(zip(places, found, strict=True))

        every = share_out(-(-len(self.val) // self.batch_size), piece)
        scalars = {name: float(np.mean([row[name] for row in every])) for name in every[0]}
        score = -scalars["ESTOI"] if self.best == "estoi" else scalars["error"]
        return Validation(score, scalars, figures, sounds, self.val.audio.sample_rate)

    def learn(self, average: nn.Module, done: float) -> bool:
        """Measure the lag of each training clip's audio, when due."""
        if done < self.lag_due:
            return False
        self.train.lags |= find_lags(average, self.train, self.settings.lag_frames, self.batch_size)
        self.lag_due = done + self.settings.lag_every
        return True

    def state(self) -> dict[str, Any]:
        """Return the lags and the time of their next measurement."""
        return {"lags": self.train.lags, "lag_due": self.lag_due} if self.train.lags else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.train.lags = dict(state.get("lags", {}))
        self.lag_due = state.get("lag_due", self.lag_due)

    def _shown(self, predicted: Prediction, batch: Batch) -> dict[str, Figure]:
        frames = int(predicted.lengths[0])
        mels = {"reference": batch.mel[0], "before": predicted.before[0], "after": predicted.after[0]}
        shown = {name: mel[:, :frames].float().cpu().numpy() for name, mel in mels.items()}
        figures = {"mel": plots.mels(shown, self.val.audio)}
        if predicted.alignment is not None:
            weights = predicted.alignment[0].float().cpu().numpy()
            figures["alignment"] = plots.alignment(weights, weights.shape[1] / self.model.config.video.fps)
        return figures

    def _rows(self, predicted: Prediction, batch: Batch) -> list[dict[str, float]]:
        lengths = batch.mel_lengths.to(batch.mel.device)
        error = self._squared_error(predicted.after, batch.mel, lengths).tolist()
        before = self._squared_error(predicted.before, batch.mel, lengths).tolist()
        rows = [{"error": error[i], "error before": before[i]} for i in range(len(batch.keys))]
        if predicted.alignment is not None:
            rate = self.model.decoder.frames_per_step
            alignment = predicted.alignment.cpu()
            for i, row in enumerate(rows):
                steps, times = -(-int(batch.mel_lengths[i]) // rate), int(batch.video_lengths[i])
                row["off diagonal"] = off_diagonal(alignment[i, :steps, :times])
        return rows

    def _intelligibility(self, wave: np.ndarray, place: int) -> dict[str, float]:
        reference = self.val[Place(0, place)].wave.cpu().numpy()
        length = min(len(reference), len(wave))
        rate = self.val.audio.sample_rate
        return {
            "STOI": float(stoi(reference[:length], wave[:length], rate)),
            "ESTOI": float(stoi(reference[:length], wave[:length], rate, extended=True)),
        }

    def _squared_error(
        self,
        mel: Float[Tensor, "batch mels frames"],
        reference: Float[Tensor, "batch mels more_frames"],
        lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """Return each clip's mean squared error in units of the training data's variance."""
        mask = length_mask(lengths, mel.shape[-1])[:, None]
        squared = ((mel - reference[..., : mel.shape[-1]]) / self.model.mel_std).square() * mask
        return squared.sum(dim=(1, 2)) / (lengths * mel.shape[1])

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
    """Return the guided-attention loss: mean attention off the diagonal (Tachibana et al. 2018, equation 5)."""
    step_count, time_count = alignment.shape[1:]
    step = torch.arange(step_count, device=alignment.device)[None] / steps[:, None]
    time = torch.arange(time_count, device=alignment.device)[None] / times[:, None]
    inside: Bool[Tensor, "batch steps time"] = (step < 1)[:, :, None] & (time < 1)[:, None]
    cost = 1 - torch.exp(-(step[:, :, None] - time[:, None]).square() / (2 * width**2))
    return (alignment * cost * inside).sum() / steps.sum()


def off_diagonal(alignment: Float[Tensor, "steps time"]) -> float:
    """Return the mean distance in video frames between the attention's maximum and the diagonal."""
    steps, times = alignment.shape
    peaks = alignment.float().argmax(dim=1).cpu().numpy()
    return float(np.abs(peaks - np.arange(steps) * times / steps).mean())


def mel_statistics(data: ClipDataset, most: int = 500) -> tuple[Float[Tensor, " mels"], Float[Tensor, " mels"]]:
    """Measure mean and standard deviation of each mel bin over at most `most` clips."""
    clips = len(data.entries)
    chosen = np.linspace(0, clips - 1, min(clips, most)).round().astype(int)
    frames = torch.cat([data.mel(int(index)) for index in chosen], dim=1)
    return frames.mean(dim=1), frames.std(dim=1).clamp(min=1e-3)
