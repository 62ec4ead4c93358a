"""A run's settings <-> `recipe.json` in its folder, which a run that is resumed keeps to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lipsound2.atomic import write_text
from lipsound2.config import read_config, to_json
from lipsound2.errors import ConfigError

RECIPE_NAME = "recipe.json"


def keep_recipe(run: Path, recipe: Any) -> None:
    """Write the recipe, or see that a run that is resumed keeps to all that may not change.

    Args:
        run: Folder of the run.
        recipe: A dataclass with a `TrainConfig` named `train`, of which batch size and seed may not change.

    Raises:
        ConfigError: The run was begun with other settings.
    """
    path = run / RECIPE_NAME
    if path.exists():
        old = read_config(path, type(recipe))
        kept = replace(recipe.train, batch_size=old.train.batch_size, seed=old.train.seed)
        if replace(old, train=kept) != recipe:
            raise ConfigError(
                f"{run} was begun with other settings than these", "give the same ones to resume, or another -o"
            )
    write_text(path, to_json(recipe))
