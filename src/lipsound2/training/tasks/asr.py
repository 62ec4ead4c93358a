"""Speech and transcripts -> a trained Jasper: the task of `lipsound2 recognizer train` and `finetune`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from lipsound2 import plots
from lipsound2.data.dataset import Place
from lipsound2.data.sample import Wave
from lipsound2.recognizer import ctc
from lipsound2.recognizer.config import JasperConfig
from lipsound2.recognizer.features import Features, features, log_power, normalize, quiet_frames
from lipsound2.recognizer.jasper import Jasper, Posteriors
from lipsound2.text.alphabet import error_rates
from lipsound2.training import augment
from lipsound2.training.losses import ctc_loss, quiet_loss
from lipsound2.training.speech import SpeechBatch, SpeechDataset, Utterance, collate
from lipsound2.training.task import Task, Validation


class Decoded(NamedTuple):
    """Reference and hypothesis of a clip, and the loss per character."""

    reference: str
    hypothesis: str
    loss: float


class JasperTask(Task[SpeechBatch]):
    """Recognise speech by CTC.

    Args:
        model: The network.
        train: Training clips.
        val: Validation clips by name, not augmented; the first select the best checkpoint.
        settings: Augmentation of features.
        quiet_weight: Weight of the loss on words in silence.
        batch_size: Batch size of the validation.
    """

    legend = "WER, CER: word and character error rates of the validation clips, decoded greedily; lower is better"
    model: Jasper

    def __init__(
        self,
        model: Jasper,
        train: SpeechDataset,
        val: dict[str, SpeechDataset],
        settings: augment.SpeechAugmentConfig,
        quiet_weight: float = 1.0,
        batch_size: int = 16,
    ) -> None:
        self.model = model
        self.train = train
        self.val = val
        self.settings = settings
        self.quiet_weight = quiet_weight
        self.batch_size = batch_size

    def config(self) -> JasperConfig:
        """Return the model's configuration."""
        return self.model.config

    @property
    def collate(self) -> Callable[[Sequence[Utterance]], SpeechBatch]:
        """Pads and stacks."""
        return collate

    def loss(
        self, model: nn.Module, batch: SpeechBatch, epoch: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the CTC loss of augmented features, and the loss on words in silence."""
        config = self.model.config
        values, lengths = self._log_power(batch, generator)
        posteriors = model(*self._augmented(values, lengths, generator))
        stride = config.samples_per_frame // config.features.hop_length
        quiet = quiet_frames(values, lengths)[:, ::stride]
        parts = {
            "ctc": ctc_loss(posteriors, batch.symbols, batch.symbol_lengths),
            "quiet": self.quiet_weight * quiet_loss(posteriors, quiet, batch.symbol_lengths),
        }
        return parts["ctc"] + parts["quiet"], parts

    def validate(self, model: nn.Module, show: bool) -> Validation:
        """Decode greedily; the score is the WER, with ties broken by the loss."""
        scalars: dict[str, float] = {}
        scores = []
        for name, data in self.val.items():
            rows = [row for start in range(0, len(data), self.batch_size) for row in self._decode(model, data, start)]
            loss = sum(row.loss for row in rows) / len(rows)
            wer, cer = error_rates((row.reference, row.hypothesis) for row in rows)
            scalars |= {f"WER {name}": wer, f"CER {name}": cer, f"loss {name}": loss}
            scores.append(wer + 1e-5 * loss)
        if not show:
            return Validation(scores[0], scalars)
        sounds = {f"speech {name}": data.wave(0) for name, data in self.val.items()}
        mels = {name: self._spectrogram(model, wave) for name, wave in sounds.items()}
        scale = self.model.config.features
        figure = plots.mels(mels, scale, unit="standard deviations")
        return Validation(scores[0], scalars, {"features": figure}, sounds, scale.sample_rate)

    def _spectrogram(self, model: nn.Module, wave: Wave) -> Float32[np.ndarray, "mels frames"]:
        """Compute the network's input features of one wave."""
        device = next(model.parameters()).device
        batch = torch.from_numpy(wave)[None].to(device)
        lengths = torch.tensor([len(wave)], device=device)
        return features(batch, lengths, self.model.config.features).values[0].float().cpu().numpy()

    def _log_power(self, batch: SpeechBatch, generator: torch.Generator) -> Features:
        config = self.model.config.features
        dither = torch.randn(batch.wave.shape, generator=generator).to(batch.wave)
        return log_power(batch.wave + config.dither * dither, batch.wave_lengths, config)

    def _augmented(self, values: Tensor, lengths: Tensor, generator: torch.Generator) -> Features:
        blurred = augment.blur(values, self.settings, generator)
        return augment.mask(normalize(blurred, lengths), self.settings, generator)

    def _decode(self, model: nn.Module, data: SpeechDataset, start: int) -> list[Decoded]:
        places = range(start, min(start + self.batch_size, len(data)))
        device = next(model.parameters()).device
        whole = collate([data[Place(0, place)] for place in places])
        batch = SpeechBatch(whole.keys, *(tensor.to(device) for tensor in whole[1:]))
        posteriors = model(*features(batch.wave, batch.wave_lengths, self.model.config.features))
        rows = []
        for i, place in enumerate(places):
            one = Posteriors(posteriors.values[i : i + 1], posteriors.lengths[i : i + 1])
            loss = ctc_loss(one, batch.symbols[i : i + 1], batch.symbol_lengths[i : i + 1])
            values = one.values[0, : int(one.lengths[0])].float().cpu().numpy()
            symbols = ctc.collapse(ctc.best_path(values), data.alphabet.blank)
            rows.append(Decoded(data.texts[place], data.alphabet.clean(data.alphabet.decode(symbols)), loss.item()))
        return rows
