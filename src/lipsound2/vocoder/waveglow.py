"""Log-mel and noise <-> waveform: WaveGlow (Prenger, Valle & Catanzaro 2018)."""

from collections.abc import Callable
from math import log, pi, sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lipsound2.vocoder.config import WaveGlowConfig
from lipsound2.vocoder.coupling import Affine, Coupling, Folded, Inversion, Mixing, inversions
from lipsound2.vocoder.derived import Derived
from lipsound2.vocoder.integers import Integers, affine, quantize, to_integers
from lipsound2.vocoder.prediction import Predictor, colour, predictor, whiten


class Inversions(NamedTuple):
    """Inverses and log-determinants of all mixings."""

    inverses: Float[Tensor, "flows most most"]
    log_dets: Float[Tensor, " flows"]


class Flowed(NamedTuple):
    """Noise that corresponds to a wave, and the log-determinants.

    Attributes:
        z: The noise, of unit variance if the model is right.
        scaled: Log-determinant of the couplings.
        mixed: Log-determinant of the mixings.
        whitened: Log-determinant of the linear prediction.
        seen: Input of the flows: the wave, or the residual of its linear prediction.
        generated: Output of the inverse flows for other noise, if asked for.
    """

    z: Float[Tensor, "batch group steps"]
    scaled: Float[Tensor, " batch"]
    mixed: Float[Tensor, " batch"]
    whitened: Float[Tensor, " batch"]
    seen: Float[Tensor, "batch samples"]
    generated: Float[Tensor, "batch samples"] | None


class _Flow(NamedTuple):
    """A flow, its folded weights, and its mel conditioning if already computed."""

    width: int
    mixing: Mixing
    coupling: Coupling
    weights: Folded
    conditions: Tensor | None

    def affine(self, kept: Tensor, mel: Tensor) -> Affine:
        known = self.conditions
        return self.coupling(
            kept, self.coupling.conditions(mel, self.weights) if known is None else known, self.weights
        )


class WaveGlow(nn.Module):
    """Invertible flows between audio and noise, conditioned on the mel.

    >>> from lipsound2.vocoder.config import waveglow_small
    >>> model = WaveGlow(waveglow_small())
    >>> mel = torch.full((1, 80, 10), -5.0)
    >>> model.infer(mel, torch.randn(1, 40, 40)).shape
    torch.Size([1, 1600])
    """

    def __init__(self, config: WaveGlowConfig) -> None:
        super().__init__()
        self.config = config
        audio, group = config.audio, config.group
        window = audio.win_length // group
        self.upsample = nn.ConvTranspose1d(audio.n_mels, config.condition, window, stride=config.steps_per_frame)
        self.mixings = nn.ModuleList(Mixing(width) for width in config.widths)
        self.couplings = nn.ModuleList(
            Coupling(width // 2, config.condition, config.layers, config.channels, config.kernel)
            for width in config.widths
        )
        self._quantized: dict[int, Derived[Integers]] = {}

    def forward(
        self,
        wave: Float[Tensor, "batch samples"],
        mel: Float[Tensor, "batch mels frames"],
        past: Float[Tensor, "batch order"] | None = None,
        noise: Float[Tensor, "batch group steps"] | None = None,
        inversions: Inversions | None = None,
    ) -> Flowed:
        """Map audio of frames * hop_length samples to noise.

        Args:
            wave: Audio.
            mel: Its log-mel.
            past: Samples before it; silence by default.
            noise: Noise that is mapped to audio in the same call, for training.
            inversions: As `inversions` returns them; computed by default.
        """
        seen, whitened = self._residual(wave, mel, past)
        known = self.inversions() if inversions is None else inversions
        condition = self._condition(mel)
        flows = self._flows(condition)
        x = seen.unflatten(1, (-1, self.config.group)).transpose(1, 2)
        early: list[Tensor] = []
        scaled, mixed = x.new_zeros(len(x)), x.new_zeros(len(x))
        for flow, inverse, log_det in zip(flows, *known, strict=True):
            if x.shape[1] > flow.width:
                early.append(x[:, : -flow.width])
                x = x[:, -flow.width :]
            with _exactly(x):
                x, log_det = flow.mixing(x, Inversion(inverse[: flow.width, : flow.width], log_det))
            kept, changed = x.chunk(2, dim=1)
            shift, log_scale = flow.affine(kept, condition)
            x = torch.cat([kept, log_scale.exp() * changed + shift], dim=1)
            mixed = mixed + x.shape[2] * log_det
            scaled = scaled + log_scale.sum(dim=(1, 2))
        generated = None if noise is None else self._unflow(flows, condition, noise, known)
        return Flowed(torch.cat([*early, x], dim=1), scaled, mixed, whitened, seen, generated)

    def infer(
        self, mel: Float[Tensor, "batch mels frames"], z: Float[Tensor, "batch group steps"]
    ) -> Float[Tensor, "batch samples"]:
        """Map noise to audio of exactly frames * hop_length samples; the inverse of `forward`."""
        with torch.no_grad():
            wave = self.unflow(mel, z)
            return colour(wave, self.predictor(mel)) if self.config.prediction else wave

    def unflow(
        self,
        mel: Float[Tensor, "batch mels frames"],
        z: Float[Tensor, "batch group steps"],
        integers: bool = False,
    ) -> Float[Tensor, "batch samples"]:
        """Map noise to the flows' input: audio, or the residual of its linear prediction; without gradients.

        Args:
            mel: Log-mel.
            z: Noise.
            integers: Compute the couplings in 8-bit integers (see `vocoder.integers`); only for batches of one.
        """
        with torch.no_grad():
            condition = self._condition(mel)
            if integers:
                return self._undone(z, self._in_integers(condition), None)
            return self._unflow(self._flows(condition), condition, z, None)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.upsample.weight.device

    def inversions(self) -> Inversions:
        """Invert the mixings for training, without synchronising with a GPU."""
        return Inversions(*inversions(list(self.mixings)))  # type: ignore[arg-type]

    def predictor(self, mel: Float[Tensor, "batch mels frames"]) -> Predictor:
        """Return the linear predictor for a mel."""
        return predictor(mel, self.config.audio, self.config.prediction)

    def _residual(
        self, wave: Float[Tensor, "batch samples"], mel: Float[Tensor, "batch mels frames"], past: Tensor | None
    ) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, " batch"]]:
        if not self.config.prediction:
            return wave, wave.new_zeros(len(wave))
        return whiten(wave, self.predictor(mel), past)

    def _flows(self, condition: Float[Tensor, "batch condition steps"]) -> list[_Flow]:
        parts = [
            (width, mixing, coupling, coupling.folded())  # type: ignore[operator]
            for width, mixing, coupling in zip(self.config.widths, self.mixings, self.couplings, strict=True)
        ]
        # In training both directions share the conditioning; otherwise it is used once and is large.
        shared = torch.is_grad_enabled()
        return [
            _Flow(*part, part[2].conditions(condition, part[3]) if shared else None)  # type: ignore[operator,arg-type]
            for part in parts
        ]

    def _unflow(
        self,
        flows: list[_Flow],
        condition: Float[Tensor, "batch condition steps"],
        z: Float[Tensor, "batch group steps"],
        known: Inversions | None,
    ) -> Float[Tensor, "batch samples"]:
        return self._undone(z, lambda number, kept: flows[number].affine(kept, condition), known)

    def _in_integers(self, condition: Float[Tensor, "1 condition steps"]) -> Callable[[int, Tensor], Affine]:
        mel, kernel = quantize(condition[0].T), self.config.kernel

        def transform(number: int, kept: Tensor) -> Affine:
            return affine(kept, mel, self._integers(number), kernel)

        return transform

    def _integers(self, number: int) -> Integers:
        coupling, kept = self.couplings[number], self._quantized.setdefault(number, Derived())
        return kept.of(lambda: to_integers(coupling.folded()), [*coupling.parameters()])  # type: ignore[operator]

    def _undone(
        self,
        z: Float[Tensor, "batch group steps"],
        transform: Callable[[int, Tensor], Affine],
        known: Inversions | None,
    ) -> Float[Tensor, "batch samples"]:
        """Invert the flows; `transform` computes a flow's affine coupling from one half."""
        x = z[:, z.shape[1] - self.config.widths[-1] :]
        mixings: list[Mixing] = list(self.mixings)  # type: ignore[arg-type]
        for number, width in reversed(list(enumerate(self.config.widths))):
            if x.shape[1] < width:
                x = torch.cat([z[:, z.shape[1] - width : z.shape[1] - x.shape[1]], x], dim=1)
            kept, changed = x.chunk(2, dim=1)
            shift, log_scale = transform(number, kept)
            inversion = known and Inversion(known.inverses[number, :width, :width], known.log_dets[number])
            with _exactly(x):
                x = mixings[number].undo(torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1), inversion)
        return x.transpose(1, 2).flatten(1)

    def _condition(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch condition steps"]:
        upsampled = self.upsample((mel - self.config.mel_mean) / self.config.mel_std)
        return upsampled[..., self.config.lead : self.config.lead + mel.shape[2] * self.config.steps_per_frame]


def negative_log_likelihood(flowed: Flowed, sigma: float = 1.0) -> Float[Tensor, ""]:
    """Return the negative log-likelihood per sample in nats (the paper's equation 10, with its constant)."""
    log_det = flowed.scaled + flowed.mixed + flowed.whitened
    size = flowed.z.numel()
    return flowed.z.square().sum() / (2 * sigma**2 * size) - log_det.sum() / size + log(sigma * sqrt(2 * pi))


def _exactly(x: Tensor) -> torch.autocast:
    """Disable autocast: errors of the mixings would accumulate from flow to flow."""
    return torch.autocast(x.device.type, enabled=False)
