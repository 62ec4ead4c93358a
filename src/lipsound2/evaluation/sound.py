"""A wave -> what metrics look at, each computed once: the wave at their rates, mel, spectrum, pitch."""

from functools import cached_property
from typing import NamedTuple

import librosa
import numpy as np
import scipy.signal
import torch
from jaxtyping import Bool, Float, Float32

from lipsound2.audio import log_mel, resample
from lipsound2.config import audio_16k
from lipsound2.voice.encoder import SILENT_PEAK

RATE = 16_000
"""Hz at which everything is measured, unless a metric names another rate."""

PITCH_HOP = 320
"""Samples from one pitch to the next."""

VOICED_LEVEL = -25.0
"""dB below the loudest frame from which on a frame may be voiced."""

Wave = Float32[np.ndarray, " samples"]


class Pitch(NamedTuple):
    """Fundamental frequency, in Hz where a frame is voiced, and which frames are."""

    hertz: Float[np.ndarray, " frames"]
    voiced: Bool[np.ndarray, " frames"]


class Sound:
    """A wave at 16 kHz with its analyses.

    Args:
        wave: Samples in [-1, 1].
        sample_rate: In Hz; other rates than 16 kHz are resampled.
    """

    def __init__(self, wave: Wave, sample_rate: int = RATE) -> None:
        self.wave = resample(wave, sample_rate, RATE)

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.wave) / RATE

    @property
    def silent(self) -> bool:
        """Return whether it is silent."""
        return float(np.abs(self.wave).max(initial=0)) < SILENT_PEAK

    @cached_property
    def at_8k(self) -> Wave:
        """The wave at 8 kHz."""
        return resample(self.wave, RATE, 8000)

    @cached_property
    def mel(self) -> Float32[np.ndarray, "mels frames"]:
        """Log-mel by the project's own settings for 16 kHz."""
        return log_mel(torch.from_numpy(self.wave)[None], audio_16k())[0].numpy()

    @cached_property
    def magnitude(self) -> Float32[np.ndarray, "bins frames"]:
        """Magnitude of the short-time Fourier transform that the mel is made of."""
        config = audio_16k()
        spectrum = librosa.stft(
            self.wave, n_fft=config.n_fft, hop_length=config.hop_length, win_length=config.win_length
        )
        return np.abs(spectrum)

    @cached_property
    def pitch(self) -> Pitch:
        """Pitch by probabilistic YIN (Mauch & Dixon 2014), 65-500 Hz, every 20 ms.

        YIN also finds pitch in the faintest hum; frames far below the loudest one count as unvoiced.
        """
        hertz, voiced, _ = librosa.pyin(
            self.wave, fmin=65, fmax=500, sr=RATE, frame_length=1024, hop_length=PITCH_HOP, fill_na=0.0
        )
        level = librosa.feature.rms(y=self.wave, frame_length=1024, hop_length=PITCH_HOP)[0]
        return Pitch(hertz, voiced & (level > level.max() * 10 ** (VOICED_LEVEL / 20)))

    @cached_property
    def envelope(self) -> Float[np.ndarray, " milliseconds"]:
        """Mean magnitude around each millisecond, smoothed over 20 ms so that glottal pulses do not count."""
        size = RATE // 1000
        whole = len(self.wave) // size * size
        fine = np.abs(self.wave[:whole]).reshape(-1, size).mean(axis=1).astype(np.float64)
        return np.convolve(fine, scipy.signal.windows.hann(23)[1:-1], "full")[10:-10]

    def fitted(self, samples: int) -> "Sound":
        """Cut or pad with silence to a length at 16 kHz."""
        if samples == len(self.wave):
            return self
        return Sound(np.pad(self.wave[:samples], (0, max(0, samples - len(self.wave)))))

    def earlier(self, samples: int) -> "Sound":
        """Shift by so many samples, later if negative; silence fills the gap and the length stays."""
        if samples == 0:
            return self
        if samples > 0:
            return Sound(np.pad(self.wave[samples:], (0, min(samples, len(self.wave)))))
        return Sound(np.pad(self.wave[:samples], (min(-samples, len(self.wave)), 0)))


def find_lag(true: Sound, made: Sound, limit: float = 0.1) -> int:
    """Return the delay of the generated audio in samples at 16 kHz, within `limit` seconds.

    The lag is where the envelopes correlate best, in steps of a millisecond.
    """
    first, second = (sound.envelope - sound.envelope.mean() for sound in (true, made))
    correlation = scipy.signal.correlate(second, first, method="fft")
    lags = scipy.signal.correlation_lags(len(second), len(first))
    near = np.abs(lags) <= round(limit * 1000)
    return int(lags[near][np.argmax(correlation[near])]) * (RATE // 1000)
