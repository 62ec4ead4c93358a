"""A pickle -> plain data: its opcodes are interpreted here and none of them can import or call anything.

Python's own unpickler imports whatever a file names and calls it. This one keeps names as names
(`Global`), makes objects of unknown classes inert records (`StandIn`), and calls only the functions
that its owner put into a table. Everything else is refused.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lipsound2.errors import CheckpointError

Calls = Mapping[str, Callable[..., Any]]
"""Functions that a pickle may ask for, by dotted name."""

Stream = io.BufferedReader | io.BytesIO
"""A file open for reading bytes."""


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle names; it was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class StandIn:
    """An object of a class that was not imported.

    Attributes:
        kind: Dotted name of its class.
        arguments: What its constructor was given.
        state: Its attributes by name.
        items: What was appended to it or, as pairs, set in it, if it is a kind of list or dict.
    """

    kind: str
    arguments: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


class RefusedError(ValueError):
    """The pickle wants something that plain data does not need."""


def read_pickle(file: Stream, calls: Calls, persistent: Callable[[Any], Any]) -> Any:
    """Read one pickle from a file that is left just behind it.

    Args:
        file: Open for reading.
        calls: Functions that the pickle may ask for; they get its data as arguments.
        persistent: Turns a persistent id into what it stands for.

    Raises:
        CheckpointError: It is damaged, or asks for something else than data.
    """
    machine = _Machine(calls, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except RefusedError as error:
        raise CheckpointError(f"the pickle {error}", "nothing in it was run; do not trust this file") from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise CheckpointError(f"the pickle is damaged: {error or type(error).__name__}") from error
    raise AssertionError("genops ends with STOP or an error")


_PUSHED = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
"""Opcodes that put their argument on the stack."""

_MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
"""Opcodes that put something new on the stack."""

_COLLECTED: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "FROZENSET": frozenset,
    "DICT": lambda items: dict(_pairs(items)),
    "POP_MARK": lambda items: None,
}
"""Opcodes that make one thing of all that lies above the mark."""


class _Machine:
    """The stack and the memo of the pickle machine (`pickletools` documents each opcode)."""

    def __init__(self, calls: Calls, persistent: Callable[[Any], Any]) -> None:
        self.calls = calls
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Interpret one opcode."""
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _MADE:
            self.stack.append(_MADE[name]())
        elif name in _COLLECTED:
            made = _COLLECTED[name](self._above_mark())
            if name != "POP_MARK":
                self.stack.append(made)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME"):
            self._change(name, argument)

    def _change(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "MARK":
                self.marks.append(stack)
                self.stack = []
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "POP":
                stack.pop()
            case "DUP":
                stack.append(stack[-1])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._popped(int(name[-1]))))
            case "APPEND":
                _append(stack[-2], self._popped(1))
            case "APPENDS" | "ADDITEMS":
                items = self._above_mark()
                _append(self.stack[-1], items)
            case "SETITEM":
                _set(stack[-3], self._popped(2))
            case "SETITEMS":
                items = self._above_mark()
                _set(self.stack[-1], items)
            case "BUILD":
                _build(stack[-2], self._popped(1)[0])
            case "GLOBAL":
                stack.append(Global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(Global(*self._popped(2)))
            case "REDUCE":
                stack.append(self._call(*self._popped(2)))
            case "NEWOBJ":
                stack.append(_new(*self._popped(2)))
            case "NEWOBJ_EX":
                kind, arguments, named = self._popped(3)
                stack.append(_new(kind, (*arguments, *named.items())))
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case _:
                raise RefusedError(f"uses the opcode {name}")

    def _above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _popped(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("too little on the stack")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if not isinstance(function, Global) or str(function) not in self.calls:
            raise RefusedError(f"asks to call {function}")
        return self.calls[str(function)](*arguments)


def _new(kind: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(kind, Global):
        raise RefusedError(f"asks for an object of {kind!r}")
    return StandIn(str(kind), tuple(arguments))


def _append(target: Any, items: list[Any]) -> None:
    if isinstance(target, StandIn):
        target.items.extend(items)
    elif isinstance(target, set):
        target.update(items)
    elif isinstance(target, list):
        target.extend(items)
    else:
        raise RefusedError(f"appends to a {type(target).__name__}")


def _set(target: Any, items: list[Any]) -> None:
    if isinstance(target, StandIn):
        target.items.extend(_pairs(items))
    elif isinstance(target, dict):
        target.update(_pairs(items))
    else:
        raise RefusedError(f"sets items of a {type(target).__name__}")


def _build(target: Any, state: Any) -> None:
    """Record attributes; those that a plain dict may have (torch's `_metadata`) are dropped."""
    if isinstance(target, StandIn):
        for part in state if isinstance(state, tuple) else (state,):
            target.state.update(part if isinstance(part, dict) else {"": part} if part is not None else {})
    elif not isinstance(target, dict):
        raise RefusedError(f"sets attributes of a {type(target).__name__}")


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))
