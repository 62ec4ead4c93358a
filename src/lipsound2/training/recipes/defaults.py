"""Arguments of a training command -> its settings: defaults of its kind, a recipe, assignments, options."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lipsound2.errors import ConfigError
from lipsound2.recognizer.config import PRESETS as RECOGNIZERS
from lipsound2.settings import assign, merge, read_settings
from lipsound2.training.begin import BEGUN_NAME, RECIPE_NAME
from lipsound2.training.recipes import asr, lip2mel, vocoder
from lipsound2.training.run import Recipe


@dataclass(frozen=True)
class Kind:
    """A training command.

    Attributes:
        defaults: Returns its default settings, of a preset where there are some.
        presets: Names of the presets, the default first.
        measure: The metric that selects the best checkpoint.
        format: Format of its values.
    """

    defaults: Callable[..., Recipe]
    presets: tuple[str, ...]
    measure: str
    format: str


KINDS = {
    "pretrain": Kind(lip2mel.pretrain_recipe, tuple(lip2mel.PRESETS), "free-running error", ".4f"),
    "finetune": Kind(lip2mel.finetune_recipe, (), "free-running error", ".4f"),
    "vocoder": Kind(vocoder.vocoder_recipe, tuple(vocoder.PRESETS), "loss", ".4f"),
    "vocoder-finetune": Kind(vocoder.finetune_vocoder_recipe, (), "loss", ".4f"),
    "recognizer": Kind(asr.recognizer_recipe, tuple(RECOGNIZERS), "word error rate", ".1%"),
    "recognizer-finetune": Kind(asr.finetune_recognizer_recipe, (), "word error rate on generated speech", ".1%"),
}
"""The training commands by their names in `lipsound2 recipe`."""


def find_kind(name: str) -> Kind:
    """Return a training command by its name.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in KINDS:
        raise ConfigError(f"there is no kind of recipe {name!r}", f"one of {', '.join(KINDS)}")
    return KINDS[name]


def default_recipe(kind: str, preset: str | None = None) -> Recipe:
    """Return the default settings of a training command.

    Raises:
        ConfigError: There is no such kind, or it has no such preset.
    """
    found = find_kind(kind)
    if preset is None:
        return found.defaults()
    if preset not in found.presets:
        known = ", ".join(found.presets) or "none: it keeps the model that it starts from"
        raise ConfigError(f"there is no preset {preset!r} of {kind}", f"known: {known}")
    return found.defaults(preset)


def choose_recipe(
    kind: str,
    preset: str | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the settings of a training command.

    Args:
        kind: Its name in `KINDS`.
        preset: Defaults for what the others leave out.
        file: A recipe, or the folder of a run with one.
        assignments: Lines such as `train.epochs=3`; they come before the file.
        options: Values by the keys of the settings, such as `train.epochs`; they come before both.

    Raises:
        ConfigError: A setting is unknown, has another type or is out of range, or would have no effect.
    """
    options = options or {}
    twice = [key for key in options if any(line.partition("=")[0].strip() == key for line in assignments)]
    if twice:
        raise ConfigError(f"--set {twice[0]} and the option of its own set the same", "leave one out")

    def chosen(preset: str | None) -> Recipe:
        recipe = default_recipe(kind, preset)
        return assign(read_settings(recipe_file(file), recipe) if file else recipe, assignments)

    recipe = chosen(preset)
    if preset and (file or assignments) and all(chosen(other) == recipe for other in find_kind(kind).presets):
        raise ConfigError(f"--preset {preset} does nothing: the recipe already names a model", "leave it out")
    return merge(recipe, _nested(options), "options") if options else recipe


def recipe_file(path: Path) -> Path:
    """Return the recipe file of a path, which may be a run's folder."""
    return path / RECIPE_NAME if path.is_dir() else path


def guess_kind(path: Path) -> str:
    """Return the training command of a recipe, from its settings and from whether its run started from a model.

    Raises:
        ConfigError: It fits none; the message is that of the closest command.
    """
    begun = path / BEGUN_NAME
    started = begun.is_file() and bool(json.loads(begun.read_text(encoding="utf-8")).get("start"))
    errors = []
    for kind, found in KINDS.items():
        if bool(found.presets) == started:
            continue
        try:
            read_settings(recipe_file(path), found.defaults())
        except ConfigError as error:
            errors.append(error)
        else:
            return kind
    raise errors[0]


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in options.items():
        *parents, name = key.split(".")
        place = data
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return data


def with_model(recipe: Any, other: Any) -> Any:
    """Return a recipe that names no model with that of another one."""
    return replace(recipe, model=other.model) if recipe.model is None else recipe
