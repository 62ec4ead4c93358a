"""A wave and the steady noise of the model that made it -> the wave with less of it.

What a WaveGlow says of a featureless mel without any noise is a hum of its own, the same everywhere;
its magnitudes are taken off those of the wave, as NVIDIA's denoiser does.
"""

from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import istft, stft
from lipsound2.config import AudioConfig
from lipsound2.vocoder.waveglow import WaveGlow

FRAMES = 88
"""Length of the featureless mel."""


def bias(model: WaveGlow) -> Float[Tensor, "bins 1"]:
    """Measure the magnitudes of a model's own hum."""
    config = model.config
    like = model.upsample.weight
    mel = like.new_full((1, config.audio.n_mels, FRAMES), config.mel_mean)
    wave = model.infer(mel, like.new_zeros(1, config.group, FRAMES * config.steps_per_frame))
    return stft(wave, config.audio).abs()[0].median(dim=1, keepdim=True).values


def denoise(
    wave: Float[Tensor, "1 samples"], hum: Float[Tensor, "bins 1"], strength: float, audio: AudioConfig
) -> Float[Tensor, "1 samples"]:
    """Take `strength` times the hum off a wave, but nowhere more than there is."""
    spectrum = stft(wave, audio)
    magnitude = spectrum.abs()
    share = (1 - strength * hum / magnitude.clamp(min=audio.floor)).clamp(min=0)
    return istft(spectrum * share, audio, wave.shape[1])
