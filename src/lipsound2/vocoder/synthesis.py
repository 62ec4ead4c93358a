"""A trained WaveGlow -> a vocoder: mel of any length to audio, window by window without seams."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.errors import CheckpointError
from lipsound2.runtime.weights import find_weights, load_folder
from lipsound2.runtime.windows import windows
from lipsound2.vocoder.base import Flows
from lipsound2.vocoder.config import WaveGlowConfig
from lipsound2.vocoder.consistency import context, made_consistent
from lipsound2.vocoder.denoise import bias, denoise
from lipsound2.vocoder.half import half_is_fast, halved
from lipsound2.vocoder.integers import integers_are_fast
from lipsound2.vocoder.prediction import Predictor, colour
from lipsound2.vocoder.waveglow import WaveGlow


class WaveGlowVocoder:
    """Turn log-mel into audio with a WaveGlow.

    Neighbouring windows share the noise where they overlap, and overlap by more than the receptive
    field, so that the result equals one pass over the whole mel.

    Args:
        model: In evaluation mode.
        sigma: Standard deviation of the noise; by default the configuration's.
        denoise: Strength of the bias denoiser; by default the configuration's.
        seed: Random seed of the noise.
        half: Whether to compute in half precision; by default where that is fast.
        integers: Whether to compute in 8-bit integers; by default where that is fast, if `half` is left at its default
            and not used.
        chunk: Mel frames per window, without the overlap.
    """

    name = "waveglow"

    def __init__(
        self,
        model: Flows,
        sigma: float | None = None,
        denoise: float | None = None,
        seed: int = 0,
        half: bool | None = None,
        integers: bool | None = None,
        chunk: int = 400,
    ) -> None:
        self.model = model
        self.audio = model.config.audio
        self.sigma = model.config.sigma if sigma is None else sigma
        self.strength = model.config.denoise if denoise is None else denoise
        self.seed = seed
        self.half = half_is_fast(model.device) if half is None else half
        if integers is None:
            integers = half is None and not self.half and integers_are_fast(model.device)
        self.integers = integers
        self.chunk = chunk

    def __call__(self, mel: Float[Tensor, "mels frames"]) -> Float[Tensor, " samples"]:
        """Return frames * hop_length samples."""
        return torch.cat(list(self.stream([mel])))

    def stream(self, pieces: Iterable[Float[Tensor, "mels _"]]) -> Iterator[Float[Tensor, " _"]]:
        """Yield audio as mel arrives, as soon as it no longer depends on what follows.

        Args:
            pieces: Log-mel in pieces of any length.
        """
        config, hop, mels = self.model.config, self.audio.hop_length, self.audio.n_mels
        generated = self._generated(pieces)
        if not self.strength and not config.consistency:
            yield from (columns[mels:].T.flatten() for columns in generated)
            return
        with torch.no_grad(), self._precision():
            hum = bias(self.model) if self.strength else None
        spectrum = -(-2 * self.audio.n_fft // hop)
        for window in windows(generated, self.chunk, spectrum + context(self.audio, config.consistency)):
            mel, wave = window.columns[:mels], window.columns[mels:].T.flatten()[None]
            if hum is not None:
                wave = denoise(wave, hum, self.strength, self.audio)
            wave = made_consistent(wave, mel, self.audio, config.consistency)
            yield wave[0, window.core.start * hop : window.core.stop * hop]

    def _generated(self, pieces: Iterable[Float[Tensor, "mels _"]]) -> Iterator[Float[Tensor, "rows _"]]:
        """Yield columns of a frame's mel and its audio."""
        config, hop = self.model.config, self.audio.hop_length
        past: Tensor | None = None
        for window in windows(self._noisy(pieces), self.chunk, config.context):
            mel, noise = window.columns[None].split([self.audio.n_mels, hop], dim=1)
            z = noise.unflatten(1, (config.group, config.steps_per_frame)).transpose(2, 3).flatten(2)
            with torch.no_grad(), self._precision():
                wave = self.model.unflow(mel, z, self.integers)[:, window.core.start * hop : window.core.stop * hop]
            if config.prediction:
                by = Predictor(*(part[:, window.core] for part in self.model.predictor(mel)))
                wave = colour(wave, by, past)
                past = wave[:, -config.prediction :]
            yield torch.cat([mel[0, :, window.core], wave[0].unflatten(0, (-1, hop)).T])

    def _noisy(self, pieces: Iterable[Float[Tensor, "mels _"]]) -> Iterator[Float[Tensor, "rows _"]]:
        """Yield columns of a frame's mel and the noise for its audio."""
        generator = torch.Generator().manual_seed(self.seed)
        for mel in pieces:
            # Drawn frame by frame, independently of where pieces end.
            columns = [torch.randn(self.audio.hop_length, generator=generator) for _ in range(mel.shape[1])]
            if columns:
                yield torch.cat([mel, self.sigma * torch.stack(columns, dim=1).to(mel)])

    def _precision(self) -> torch.autocast:
        return halved(self.model.device, self.half)


def load_waveglow(folder: Path, device: torch.device | str = "cpu") -> WaveGlow:
    """Rebuild a WaveGlow from `config.json` and `model.safetensors`, in evaluation mode."""
    return load_folder(folder, WaveGlowConfig, WaveGlow, device)


def waveglow_folder(folder: Path) -> Path:
    """Return the folder of a WaveGlow: itself, the best of a run, or that of a pack.

    Raises:
        CheckpointError: There is none.
    """
    found = find_weights(folder, WaveGlowVocoder.name)
    if found is None:
        raise CheckpointError(f"{folder} holds no WaveGlow", "train one with: lipsound2 vocoder train PREPARED")
    return found
