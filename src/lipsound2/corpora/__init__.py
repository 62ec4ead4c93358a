"""Where clips come from: each reader turns a corpus's folder into `Clip` records."""

from lipsound2.corpora.clip import Clip, Reader
from lipsound2.corpora.folder import read_folder
from lipsound2.corpora.grid import read_grid

READERS: dict[str, Reader] = {"folder": read_folder, "grid": read_grid}
"""Corpus readers by the name that `lipsound2 prepare` takes."""

__all__ = ["READERS", "Clip", "Reader", "read_folder", "read_grid"]
