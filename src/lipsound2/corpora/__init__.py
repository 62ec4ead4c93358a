"""Where clips come from: each reader turns a corpus's folder into `Clip` records."""

from lipsound2.corpora.clip import Clip, Reader
from lipsound2.corpora.cmlr import read_cmlr
from lipsound2.corpora.folder import read_folder
from lipsound2.corpora.grid import read_grid
from lipsound2.corpora.lombard_grid import read_lombard_grid
from lipsound2.corpora.lrs import read_lrs2, read_lrs3
from lipsound2.corpora.segments import read_segments
from lipsound2.corpora.tcd_timit import read_tcd_timit
from lipsound2.corpora.voxceleb2 import read_voxceleb2
from lipsound2.errors import ConfigError

READERS: dict[str, Reader] = {
    "folder": read_folder,
    "grid": read_grid,
    "lombard-grid": read_lombard_grid,
    "tcd-timit": read_tcd_timit,
    "lrs2": read_lrs2,
    "lrs3": read_lrs3,
    "voxceleb2": read_voxceleb2,
    "avspeech": read_segments,
    "cmlr": read_cmlr,
}
"""Corpus readers by the name that `lipsound2 prepare` takes. See docs/data.md and docs/extending.md."""

__all__ = ["READERS", "Clip", "Reader", "find_reader", "read_folder", "read_grid"]


def find_reader(name: str) -> Reader:
    """Return a corpus reader.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in READERS:
        raise ConfigError(f"no corpus layout {name!r}", f"known: {', '.join(READERS)}")
    return READERS[name]
