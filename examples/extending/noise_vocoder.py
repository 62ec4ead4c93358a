"""A vocoder of one's own: noise with the spectral envelope of the mel, that is, whispered speech.

    python examples/extending/noise_vocoder.py speak clip.mp4 --vocoder noise

This file is the command `lipsound2` with one vocoder more. docs/extending.md walks through it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import istft, mel_to_magnitude, stft
from lipsound2.cli import main
from lipsound2.config import AudioConfig
from lipsound2.runtime.windows import windows
from lipsound2.vocoder.choose import VOCODERS


class NoiseVocoder:
    """Give the phases of white noise the magnitudes of a mel.

    Args:
        audio: Settings of the mels.
        chunk: Mel frames a window; the result does not depend on it.
        seed: Of the noise.
    """

    name = "noise"

    def __init__(self, audio: AudioConfig, chunk: int = 400, seed: int = 0) -> None:
        self.audio = audio
        self.chunk = chunk
        self.seed = seed
        self.context = -(-2 * audio.n_fft // audio.hop_length)

    def __call__(self, mel: Float[Tensor, "mels frames"]) -> Float[Tensor, " samples"]:
        """Return frames * hop_length samples in [-1, 1], made window by window, so that memory stays bounded."""
        hop = self.audio.hop_length
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(mel.shape[1], hop, generator=generator).to(mel).T
        made = []
        for window in windows([torch.cat([mel, noise])], self.chunk, self.context):
            wave = self._shaped(window.columns[: len(mel)], window.columns[len(mel) :].T.flatten())
            made.append(wave[window.core.start * hop : window.core.stop * hop])
        return torch.cat(made).clamp(-1, 1)

    def _shaped(self, mel: Float[Tensor, "mels frames"], noise: Float[Tensor, " samples"]) -> Tensor:
        spectrum = stft(noise[None], self.audio)
        magnitude = torch.nn.functional.pad(mel_to_magnitude(mel[None], self.audio), (0, 1), mode="replicate")
        return istft(torch.polar(magnitude, spectrum.angle()), self.audio, len(noise))[0]


VOCODERS[NoiseVocoder.name] = lambda audio, packed, device: NoiseVocoder(audio)

if __name__ == "__main__":
    main()
