"""Shapes are checked at every call of the package while tests run."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from jaxtyping import install_import_hook

hook = install_import_hook("lipsound2", "beartype.beartype")

from pathlib import Path

import pytest
import torch

DATA = Path(__file__).parent / "data"
GRID = Path(__file__).parents[2] / "shared" / "data" / "grid"


@pytest.fixture(autouse=True, scope="session")
def two_threads():
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def grid() -> Path:
    """GRID clips beside the checkout; tests that use them are skipped where they are not."""
    if not GRID.is_dir():
        pytest.skip(f"no GRID clips at {GRID}")
    return GRID
