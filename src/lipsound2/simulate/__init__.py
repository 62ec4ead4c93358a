"""A grammar and a seed -> a corpus of talking heads that do not exist, which anyone may have.

from pathlib import Path
from lipsound2.simulate import SimulateConfig, simulate

simulate(SimulateConfig(clips=500, speakers=8, grammar="grid"), Path("sim"))
"""

from lipsound2.simulate.corpus import simulate
from lipsound2.simulate.studio import SimulateConfig

__all__ = ["SimulateConfig", "simulate"]
