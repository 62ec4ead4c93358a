"""Log-mel -> waveform."""

from lipsound2.vocoder.griffin_lim import GriffinLim
from lipsound2.vocoder.vocoder import Vocoder

__all__ = ["GriffinLim", "Vocoder"]
