"""Shapes are checked at every call of the package while tests run."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
install_import_hook("lipsound2", "beartype.beartype").__enter__()

DATA = Path(__file__).parent / "data"
GRID = Path(__file__).parents[2] / "shared" / "data" / "grid"


@pytest.fixture(scope="session")
def clips() -> Path:
    """Simulated talking faces with sound and transcripts, in a folder a speaker."""
    return DATA / "sim"


@pytest.fixture(scope="session")
def grid() -> Path:
    """GRID clips beside the checkout; tests that use them are skipped where they are not."""
    if not GRID.is_dir():
        pytest.skip(f"no GRID clips at {GRID}")
    return GRID


@pytest.fixture(scope="session")
def prepared(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated clips, prepared once for all tests that only read them."""
    from lipsound2.corpora import read_folder
    from lipsound2.data.prepare import PrepareConfig, prepare

    output = tmp_path_factory.mktemp("prepared")
    summary = prepare(read_folder(clips), output, PrepareConfig(shard_size=4, workers=1))
    assert summary.failures == 0
    return output
