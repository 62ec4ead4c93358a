"""The LipSound2 network: silent video -> log-mel spectrogram and alignment."""

from lipsound2.model.lipsound import LipSound2, Prediction

__all__ = ["LipSound2", "Prediction"]
