"""A waveform -> a speaker embedding, by the encoder of Resemblyzer 0.1.4 (Wan et al. 2018; see NOTICE.md).

Its network and features are computed here, its weights lie beside this file as safetensors. What is
left out is the voice activity detector: silence is cut off at both ends by loudness instead.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from lipsound2.runtime.weights import fill, load_weights

RATE = 16_000
"""Hz of the waveforms."""
DIM = 256
"""Size of an embedding."""
SILENT_PEAK = 1e-3
"""A waveform that never exceeds this (-60 dB of full scale) counts as silence."""
WEIGHTS = Path(__file__).parent / "voice_encoder.safetensors"
PART = 160
"""Frames of 10 ms that the encoder sees at once."""

STEP = 77
"""Frames from one part to the next: 1.3 parts a second."""

Wave = Float32[np.ndarray, " samples"]


class VoiceEncoder(nn.Module):
    """Three LSTM layers; the last state, projected, rectified and of length 1, is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel: Float[Tensor, "parts frames 40"]) -> Float[Tensor, "parts 256"]:
        """Embed parts of a mel spectrogram."""
        _, (hidden, _) = self.lstm(mel)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


def embed(wave: Wave) -> Float32[np.ndarray, "256"]:
    """Embed a waveform at 16 kHz; embeddings have length 1, so that products are cosines. Silence gives zeros."""
    if float(np.abs(wave).max(initial=0)) < SILENT_PEAK:
        return np.zeros(DIM, np.float32)
    import librosa

    wave, _ = librosa.effects.trim(wave, top_db=40)
    mel = _mel(_louder(wave))
    starts = [start for start in range(0, len(mel), STEP) if start == 0 or len(mel) - start >= 0.75 * PART]
    missing = max(0, starts[-1] + PART - len(mel))
    mel = np.pad(mel, ((0, missing), (0, 0)))
    parts = torch.from_numpy(np.stack([mel[start : start + PART] for start in starts]))
    with torch.inference_mode():
        return nn.functional.normalize(_encoder()(parts).mean(dim=0), dim=0).numpy()


@lru_cache(maxsize=1)
def _encoder() -> VoiceEncoder:
    encoder = VoiceEncoder()
    fill(encoder, load_weights(WEIGHTS), WEIGHTS)
    return encoder.eval()


def _louder(wave: Wave) -> Wave:
    """Raise the loudness to -30 dB of full scale; what is louder stays."""
    return wave * max(1.0, 10 ** (-30 / 20) / float(np.sqrt(np.square(wave).mean())))


def _mel(wave: Wave) -> Float32[np.ndarray, "frames 40"]:
    import librosa

    power = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=400, hop_length=160, n_mels=40)
    return np.ascontiguousarray(power.T, np.float32)
