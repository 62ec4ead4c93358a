"""The LipSound2 network: silent video in, log-mel spectrogram and alignment out."""

from lipsound2.model.lipsound import LipSound2, Prediction

__all__ = ["LipSound2", "Prediction"]
