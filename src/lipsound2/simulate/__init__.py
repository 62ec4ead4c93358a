"""A grammar and a seed -> a synthetic corpus of talking heads, free to use (CC0).

from pathlib import Path
from lipsound2.simulate import SimulateConfig, simulate

simulate(SimulateConfig(clips=500, speakers=8, grammar="grid"), Path("sim"))
"""

from lipsound2.simulate.corpus import simulate
from lipsound2.simulate.studio import SimulateConfig

__all__ = ["SimulateConfig", "simulate"]
