"""LipSound2: reconstruct speech from silent video of a talking face, and read what was said."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lipsound2.inference.pipeline import Pipeline, load
    from lipsound2.inference.speech import Speech

# Idle OpenMP threads that spin take the cores from those that work; it counts when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["Pipeline", "Speech", "load"]


def __getattr__(name: str) -> Any:
    """Import the pipeline, and torch with it, only when it is asked for."""
    if name in __all__:
        from lipsound2.inference import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'lipsound2' has no attribute {name!r}")
