"""The name of an optional package -> its module or its folder, or an error that names the extra."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from lipsound2.errors import MissingExtraError

HINT = 'install it with: pip install "lipsound2[simulate]"'


def module(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"simulate needs the package {name}", HINT) from error


def folder(name: str) -> Path:
    """Find the folder of an optional package that is only read for its data, without importing it.

    Raises:
        MissingExtraError: It is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"simulate needs the data of the package {name}", HINT)
    return Path(spec.submodule_search_locations[0])
