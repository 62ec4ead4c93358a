"""Default settings and changes by name -> checked settings: recipe files, `key.path=value`, what differs.

A change is JSON that names only what it changes, such as {"train": {"epochs": 3}}, or the same in one line,
`train.epochs=3`. Names are those of the dataclasses of the settings; nothing is converted that is not what the
dataclass says.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from lipsound2.config import DECODERS, MOST_LAYERS, DecoderConfig
from lipsound2.errors import ConfigError

T = TypeVar("T")
BASE = "base"
"""Name in the metadata of a field whose default is None: a function that returns what changes are then made to."""
_SCALARS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "values true or false"),
    str: ("text", "texts"),
}


class Change(NamedTuple):
    """A setting that is not its default."""

    key: str
    default: Any
    value: Any

    def __str__(self) -> str:
        return f"{self.key} = {json.dumps(self.value)}, not {json.dumps(self.default)}"


class _Words(str):
    """A value from a command line, whose kind its setting decides."""

    __slots__ = ()


def merge(base: T, data: Any, where: str = "settings") -> T:
    """Change the settings that JSON data names.

    Args:
        base: A dataclass; what the data leaves out stays as it is here.
        data: A mapping of values by name, nested like the dataclass.
        where: The data's source, for messages.

    Raises:
        ConfigError: A name is not known, or a value is not of its kind or out of its range.
    """
    try:
        found: T = _built(type(base), base, data, "", [*keys(base)])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.hint) from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{where} is not a valid {type(base).__name__}: {error}") from error
    return found


def read_settings(path: Path, base: T) -> T:
    """Change the settings that a JSON file names.

    Raises:
        ConfigError: The file cannot be read, or as in `merge`.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return merge(base, data, str(path))


def assign(base: T, assignments: Sequence[str]) -> T:
    """Change settings by lines such as `train.epochs=3`, `speakers=s1,s2` or `window=null`.

    Raises:
        ConfigError: A line is no assignment, two name one setting, or as in `merge`.
    """
    data: dict[str, Any] = {}
    for line in assignments:
        key, equals, value = line.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {line}: KEY=VALUE was expected", "such as --set train.epochs=3")
        *parents, name = key.strip().split(".")
        place = data
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {line}: {parent} is set twice")
        if name in place:
            raise ConfigError(f"--set {line}: {key} is set twice")
        place[name] = _Words(value)
    return merge(base, data, "--set")


def changes(base: object, other: object) -> list[Change]:
    """List the settings of `other` that differ from those of `base`."""
    old, new = dict(leaves(base)), dict(leaves(other))
    return [Change(key, old.get(key), value) for key, value in new.items() if key not in old or old[key] != value]


def leaves(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """List the settings of a dataclass, and of those in it, by their keys."""
    for each in fields(settings):
        value, name = getattr(settings, each.name), f"{key}{each.name}"
        if is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            yield name, plain(value)


def keys(settings: Any, key: str = "") -> Iterator[str]:
    """List the keys that settings have, also those of settings that are None by default."""
    for each in fields(settings):
        value = _current(each, settings)
        yield f"{key}{each.name}"
        if is_dataclass(value):
            yield from keys(value, f"{key}{each.name}.")


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _built(kind: type, base: Any, data: Any, key: str, known: list[str]) -> Any:
    """Make a dataclass of data, with the values of `base` or else its defaults for what they leave out."""
    data = _opened(data)
    names = {each.name: each for each in fields(kind)}
    if not isinstance(data, Mapping):
        raise ConfigError(f"{key or 'the whole'} takes an object with {_few(names)}, got {data!r}")
    hints = get_type_hints(kind)
    values = {} if base is None else {name: getattr(base, name) for name in names}
    for name, value in data.items():
        path = f"{key}{name}"
        if name not in names:
            raise ConfigError(f"there is no setting {path}", _neighbours(path, str(name), known, names))
        values[name] = _fitted(value, hints[name], _current(names[name], base), path, known)
    missing = [name for name, each in names.items() if name not in values and _default(each) is MISSING]
    if missing:
        raise ConfigError(f"{key.rstrip('.') or kind.__name__} lacks {', '.join(missing)}")
    return kind(**values)


def _fitted(value: Any, kind: Any, current: Any, key: str, known: list[str]) -> Any:
    """Check that a value is of its setting's kind, and make a tuple or a dataclass of it where that is asked for."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    members = tuple(DECODERS.values()) if members[0] is DecoderConfig else members
    if NoneType in members:
        if _opened(value) is None:
            return None
        members = tuple(member for member in members if member is not NoneType)
    if is_dataclass(members[0]):
        chosen = _chosen(members, _opened(value), current, key)
        return _built(chosen, current if isinstance(current, chosen) else None, value, f"{key}.", known)
    if get_origin(members[0]) is tuple:
        return _listed(value, members[0], key, known)
    return _scalar(value, members[0], key)


def _chosen(members: tuple[Any, ...], value: Any, current: Any, key: str) -> Any:
    """Choose among dataclasses by their `kind`; without one the kind stays as it is."""
    if len(members) == 1:
        return members[0]
    kinds = {get_args(get_type_hints(member)["kind"])[0]: member for member in members}
    wanted = value.get("kind", None) if isinstance(value, Mapping) else None
    wanted = getattr(current, "kind", next(iter(kinds))) if wanted is None else str(wanted)
    if wanted not in kinds:
        raise ConfigError(f"{key}.kind takes one of {', '.join(kinds)}, got {wanted!r}")
    return kinds[wanted]


def _listed(value: Any, kind: Any, key: str, known: list[str]) -> tuple[Any, ...]:
    items, arguments = _opened(value), get_args(kind)
    if isinstance(value, _Words) and not isinstance(items, list):
        items = [_Words(item.strip()) for item in value.split(",")] if value else []
    if not isinstance(items, list | tuple):
        raise ConfigError(f"{key} takes {_wanted(kind)}, got {items!r}")
    many = arguments[-1] is Ellipsis
    if not many and len(items) != len(arguments):
        raise ConfigError(f"{key} takes {_wanted(kind)}, got {plain(items)!r}")
    if len(items) > MOST_LAYERS**2:
        raise ConfigError(f"{key} has {len(items)} values")
    kinds = [arguments[0]] * len(items) if many else arguments
    pairs = enumerate(zip(items, kinds, strict=True))
    return tuple(_fitted(item, kind, None, f"{key}[{number}]", known) for number, (item, kind) in pairs)


def _scalar(value: Any, kind: Any, key: str) -> Any:
    if isinstance(value, _Words):
        value = str(value) if kind is str or get_origin(kind) is Literal else _opened(value)
    if get_origin(kind) is Literal:
        fits = value in get_args(kind)
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        value = float(value) if fits else value
    elif kind is int and isinstance(value, float) and value.is_integer():
        fits, value = True, int(value)
    else:
        fits = type(value) is kind
    if not fits:
        raise ConfigError(f"{key} takes {_wanted(kind)}, got {value!r}")
    return value


def _opened(value: Any) -> Any:
    """Read the JSON in the words of a command line; what is none is text."""
    if not isinstance(value, _Words):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return str(value)


def _wanted(kind: Any, several: bool = False) -> str:
    """Return what kind of value is expected, in words."""
    if kind in _SCALARS:
        return _SCALARS[kind][several]
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(str, arguments))
    if get_origin(kind) is tuple and arguments[-1] is Ellipsis:
        return f"{'lists' if several else 'a list'} of {_wanted(arguments[0], True)}"
    if get_origin(kind) is tuple:
        return f"{'lists of ' if several else ''}{len(arguments)} {_wanted(arguments[0], True)}"
    return "objects" if several else "an object"


def _current(each: "Field[Any]", settings: Any) -> Any:
    """Return a setting's value, or what stands for one that is None."""
    value = _default(each) if settings is None else getattr(settings, each.name)
    return each.metadata[BASE]() if value is None and BASE in each.metadata else value


def _default(each: "Field[Any]") -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _neighbours(key: str, name: str, known: list[str], names: Mapping[str, Any]) -> str:
    """Return the settings that may have been meant: of the same name elsewhere, else of a similar one."""
    near = [other for other in known if other.rsplit(".", 1)[-1] == name]
    near = near or [key.removesuffix(name) + other for other in get_close_matches(name, names, 3)]
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    return f"known here: {_few(names)}"


def _few(names: Mapping[str, Any]) -> str:
    return ", ".join(names)
