"""Vocoders: log-mel -> waveform."""

from lipsound2.vocoder.base import Vocoder
from lipsound2.vocoder.griffin_lim import GriffinLim

__all__ = ["GriffinLim", "Vocoder"]
