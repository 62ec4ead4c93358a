"""Settings of work that was begun and those of a call that would go on with it -> what differs, in words."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from lipsound2.errors import DataError
from lipsound2.runtime.atomic import write_text


def differences(begun: Any, now: Any, path: str = "") -> list[str]:
    """List the settings that differ, what they were and what they are: `shard_size 4, not 5`.

    Args:
        begun: Dataclasses, mappings or plain values; a setting that it does not know yet is no difference.
        now: The like.
        path: Put before the names.
    """
    old, new = _parts(begun), _parts(now)
    if old is None or new is None:
        return [] if _plain(begun) == _plain(now) else [f"{path} {_short(begun)}, not {_short(now)}".strip()]
    return [
        line
        for name in new
        if name in old
        for line in differences(old[name], new[name], f"{path}.{name}" if path else str(name))
    ]


def changes(path: Path, plan: Mapping[str, Any], older: Mapping[str, Any] | None = None) -> list[str] | None:
    """List what differs between a plan and the one that work was begun with; None if none was begun.

    Args:
        path: File of the plan.
        plan: What is done now.
        older: Settings that older versions had and did not write down.

    Raises:
        DataError: The file of the plan is damaged.
    """
    if not path.exists():
        return None
    begun = read_plan(path)
    if not begun.keys() & plan.keys():
        raise DataError(f"{path} is damaged", "choose another folder with -o or delete this one")
    return differences(dict(older or {}) | begun, json.loads(_text(plan)))


def write_plan(path: Path, plan: Mapping[str, Any]) -> None:
    """Write down what work is begun with."""
    write_text(path, _text(plan))


def read_plan(path: Path) -> dict[str, Any]:
    """Read what work was begun with; a plan that cannot be read counts as empty."""
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return plan if isinstance(plan, dict) else {}


def _text(plan: Mapping[str, Any]) -> str:
    return json.dumps(plan, indent=2, sort_keys=True, default=str) + "\n"


def _parts(value: Any) -> Mapping[str, Any] | None:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value if isinstance(value, Mapping) else None


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
