"""Log-mel and noise <-> waveform: WaveGlow (Prenger, Valle & Catanzaro 2018)."""

from math import log, pi, sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lipsound2.vocoder.config import WaveGlowConfig
from lipsound2.vocoder.coupling import Coupling, Mixing
from lipsound2.vocoder.prediction import Predictor, colour, predictor, whiten


class Flowed(NamedTuple):
    """Noise that a wave became, and the logarithms of the determinants of the way there.

    Attributes:
        z: Of unit variance if the model is right.
        scaled: Of the couplings.
        mixed: Of the mixings.
        whitened: Of the linear prediction.
        seen: What the flows saw: the wave, or the residual of its linear prediction.
        made: What they make of other noise, if that was asked for.
    """

    z: Float[Tensor, "batch group steps"]
    scaled: Float[Tensor, " batch"]
    mixed: Float[Tensor, " batch"]
    whitened: Float[Tensor, " batch"]
    seen: Float[Tensor, "batch samples"]
    made: Float[Tensor, "batch samples"] | None


class WaveGlow(nn.Module):
    """A chain of invertible flows between sound and noise, all of which see the mel.

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

    def forward(
        self,
        wave: Float[Tensor, "batch samples"],
        mel: Float[Tensor, "batch mels frames"],
        past: Float[Tensor, "batch order"] | None = None,
        noise: Float[Tensor, "batch group steps"] | None = None,
    ) -> Flowed:
        """Turn sound of frames * hop_length samples into noise.

        Args:
            wave: Sound.
            mel: Its log-mel.
            past: Samples before it; silence if not given.
            noise: Turned into sound by the way, as training asks for both.
        """
        batch = len(wave)
        whitened = wave.new_zeros(batch)
        if self.config.prediction:
            wave, whitened = whiten(wave, self.predictor(mel), past)
        x = wave.unflatten(1, (-1, self.config.group)).transpose(1, 2)
        condition = self._condition(mel)
        early: list[Tensor] = []
        scaled, mixed = wave.new_zeros(batch), wave.new_zeros(batch)
        for width, mixing, coupling in self._flows():
            if x.shape[1] > width:
                early.append(x[:, :-width])
                x = x[:, -width:]
            with _exactly(x):
                x, log_det = mixing(x)
            kept, changed = x.chunk(2, dim=1)
            shift, log_scale = coupling(kept, condition)
            x = torch.cat([kept, log_scale.exp() * changed + shift], dim=1)
            mixed = mixed + x.shape[2] * log_det
            scaled = scaled + log_scale.sum(dim=(1, 2))
        made = None if noise is None else self.unflow(mel, noise)
        return Flowed(torch.cat([*early, x], dim=1), scaled, mixed, whitened, wave, made)

    def infer(
        self, mel: Float[Tensor, "batch mels frames"], z: Float[Tensor, "batch group steps"]
    ) -> Float[Tensor, "batch samples"]:
        """Turn noise into sound of exactly frames * hop_length samples; the inverse of `forward`."""
        with torch.no_grad():
            wave = self.unflow(mel, z)
            return colour(wave, self.predictor(mel)) if self.config.prediction else wave

    def unflow(
        self, mel: Float[Tensor, "batch mels frames"], z: Float[Tensor, "batch group steps"]
    ) -> Float[Tensor, "batch samples"]:
        """Turn noise into what the flows see: sound, or the residual of its linear prediction."""
        condition = self._condition(mel)
        x = z[:, z.shape[1] - self.config.widths[-1] :]
        for width, mixing, coupling in reversed(self._flows()):
            if x.shape[1] < width:
                x = torch.cat([z[:, z.shape[1] - width : z.shape[1] - x.shape[1]], x], dim=1)
            kept, changed = x.chunk(2, dim=1)
            shift, log_scale = coupling(kept, condition)
            with _exactly(x):
                x = mixing.undo(torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1))
        return x.transpose(1, 2).flatten(1)

    def predictor(self, mel: Float[Tensor, "batch mels frames"]) -> Predictor:
        """Give the linear prediction that the mel tells of."""
        return predictor(mel, self.config.audio, self.config.prediction)

    def _flows(self) -> list[tuple[int, Mixing, Coupling]]:
        return list(zip(self.config.widths, self.mixings, self.couplings, strict=True))  # type: ignore[arg-type]

    def _condition(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch condition steps"]:
        seen = self.upsample((mel - self.config.mel_mean) / self.config.mel_std)
        return seen[..., self.config.lead : self.config.lead + mel.shape[2] * self.config.steps_per_frame]


def surprise(flowed: Flowed, sigma: float = 1.0) -> Float[Tensor, ""]:
    """Give the negative log-likelihood a sample in nats (the paper's equation 10, with its constant)."""
    log_det = flowed.scaled + flowed.mixed + flowed.whitened
    size = flowed.z.numel()
    return flowed.z.square().sum() / (2 * sigma**2 * size) - log_det.sum() / size + log(sigma * sqrt(2 * pi))


def _exactly(x: Tensor) -> torch.autocast:
    """Keep half precision away: errors of the mixings would add up from flow to flow."""
    return torch.autocast(x.device.type, enabled=False)
