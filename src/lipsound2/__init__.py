"""LipSound2: give a silent video of a talking face its voice back, and read what was said."""

__version__ = "0.1.0"
