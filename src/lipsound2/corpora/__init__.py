"""Where clips come from: each reader turns a corpus's folder into `Clip` records."""

from lipsound2.corpora.clip import Clip, Reader
from lipsound2.corpora.folder import read_folder
from lipsound2.corpora.grid import read_grid
from lipsound2.errors import ConfigError

READERS: dict[str, Reader] = {"folder": read_folder, "grid": read_grid}
"""Corpus readers by the name that `lipsound2 prepare` takes. See docs/extending.md."""

__all__ = ["READERS", "Clip", "Reader", "find_reader", "read_folder", "read_grid"]


def find_reader(name: str) -> Reader:
    """Return a corpus reader.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in READERS:
        raise ConfigError(f"no corpus layout {name!r}", f"known: {', '.join(READERS)}")
    return READERS[name]
