"""A checkpoint that torch pickled -> dicts, lists, tensors and inert stand-ins; no code in it is run.

>>> from pathlib import Path
>>> from lipsound2.runtime.torch_pickle import module_state, read_checkpoint
>>> found = read_checkpoint(Path("waveglow_256channels.pt"))  # doctest: +SKIP
>>> weights = module_state(found["model"])  # doctest: +SKIP

Read are the zip files of torch >= 1.6 and the older files of pickles followed by raw storages, with
state dicts or whole modules in them. A module becomes a `StandIn`, which records the name of its
class and its attributes; `module_state` makes a state dict of it. A file that asks for anything
but data is refused.
"""

import io
import math
import reprlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lipsound2.errors import CheckpointError
from lipsound2.runtime.foreign import look
from lipsound2.runtime.pickle_data import Calls, Global, StandIn, Stream, read_pickle

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_ZIP = b"PK\x03\x04"
_MOST_MODULES, _LONGEST_NAME = 10_000, 1000
"""Modules in a module, and letters of the dotted name of one."""
_MOST_REPEATED = 2**20
"""Elements of a tensor that may be more than its storage holds."""
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_checkpoint(path: Path, name: Path | None = None) -> Any:
    """Read a file that `torch.save` wrote without running anything in it.

    Args:
        path: The file.
        name: What messages call it; by default its path.

    Returns:
        What was saved: dicts (ordered ones too), lists, tuples, sets, numbers, strings, tensors on
        the CPU (parameters too), `Global` for named classes and functions, and `StandIn` for
        objects of any class.

    Raises:
        CheckpointError: The file is missing, damaged, of another kind, or asks for more than data.
    """
    if not path.exists():
        raise CheckpointError(f"no such file: {path}")
    try:
        with path.open("rb") as file:
            return _read_zip(file) if file.read(len(_ZIP)) == _ZIP else _read_legacy(file)
    except CheckpointError as error:
        kind, hint = _kind(path)
        raise CheckpointError(
            f"{name or path}{kind} it cannot be read as a torch checkpoint: {error.message}", error.hint or hint
        ) from error
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        kind, hint = _kind(path)
        text = f"{name or path}{kind} it is damaged as a torch checkpoint: {error}"
        raise CheckpointError(text, hint or "fetch it again") from error


def _kind(path: Path) -> tuple[str, str | None]:
    """Return the error of a file that has none of the forms of a checkpoint."""
    found = look(path)
    likely = found.what.startswith(("is a zip", "is a pickle"))
    return (":", None) if likely else (f" {found.what};", found.hint)


def module_state(module: Any) -> dict[str, Tensor]:
    """Return the parameters and buffers of a pickled module by their dotted names, as `state_dict` would.

    Raises:
        CheckpointError: It is no module.
    """
    found: dict[str, Tensor] = {}
    modules = [("", module)]
    for prefix, one in modules:
        own, children = _parts(one)
        found |= {f"{prefix}{name}": tensor for name, tensor in own.items() if isinstance(tensor, Tensor)}
        modules += [(f"{prefix}{name}.", child) for name, child in children.items() if child is not None]
        if len(modules) > _MOST_MODULES or len(prefix) > _LONGEST_NAME:
            raise CheckpointError("its modules have no end: one of them holds itself")
    return found


def _parts(module: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a pickled module's own parameters and buffers, and its children."""
    state = module.state if isinstance(module, StandIn) else {}
    parameters, buffers, children = (state.get(name, {}) for name in ("_parameters", "_buffers", "_modules"))
    if "_modules" not in state or not all(isinstance(part, dict) for part in (parameters, buffers, children)):
        raise CheckpointError(f"a torch module was expected, got {getattr(module, 'kind', type(module).__name__)}")
    return {**parameters, **buffers}, children


class _Slot(NamedTuple):
    """A storage of the older format, filled once the pickle is read."""

    elements: Tensor


def _read_zip(file: Stream) -> Any:
    """Read the format of torch >= 1.6: `NAME/data.pkl` beside `NAME/data/KEY`, one file a storage."""
    with zipfile.ZipFile(file) as archive:
        infos = {name.partition("/")[2]: archive.getinfo(name) for name in archive.namelist()}
        if "constants.pkl" in infos:
            raise CheckpointError("it is a TorchScript program, a checkpoint of weights was expected")
        if "data.pkl" not in infos:
            raise CheckpointError("it is a zip file without data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
            # Torch never compresses, so that a file is as large as what it holds.
            raise CheckpointError("it is compressed, which torch never does")
        if "byteorder" in infos and archive.read(infos["byteorder"]) != b"little":
            raise CheckpointError("its numbers are big-endian")
        storages: dict[str, Tensor] = {}

        def load(dtype: torch.dtype, key: str, elements: int) -> Tensor:
            if key not in storages:
                info = infos[f"data/{key}"]
                if info.file_size != elements * dtype.itemsize:
                    raise ValueError(f"the storage {key} has {info.file_size} bytes, not {elements} {dtype}")
                storages[key] = _tensor(archive.read(info), dtype)
            return storages[key]

        return read_pickle(io.BytesIO(archive.read(infos["data.pkl"])), _CALLS, _persistent(load))


def _read_legacy(file: Stream) -> Any:
    """Read the older format: magic number, version, platform, data, storage keys, storages."""
    left = file.seek(0, 2)
    file.seek(0)
    storages: dict[str, Tensor] = {}

    def reserve(dtype: torch.dtype, key: str, elements: int) -> Tensor:
        nonlocal left
        if key not in storages:
            left -= elements * dtype.itemsize
            if elements < 0 or left < 0:
                raise ValueError(f"the storage {key} is larger than the file")
            storages[key] = torch.empty(elements, dtype=dtype)
        return storages[key]

    if read_pickle(file, {}, _nothing) != _MAGIC:
        raise CheckpointError("it is neither a zip file nor does it begin with torch's magic number")
    version, platform = read_pickle(file, {}, _nothing), read_pickle(file, {}, _nothing)
    if version != _PROTOCOL or not (isinstance(platform, dict) and platform.get("little_endian")):
        raise CheckpointError(f"its version and platform, {reprlib.repr((version, platform))}, are unknown")
    data = read_pickle(file, _CALLS, _persistent(reserve))
    keys = read_pickle(file, {}, _nothing)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
        raise CheckpointError("its list of storages is damaged")
    for key in keys:
        _fill(file, storages[key])
    return data


def _fill(file: Stream, storage: Tensor) -> None:
    elements = int.from_bytes(file.read(8), "little")
    if elements != storage.numel():
        raise CheckpointError(f"a storage of {storage.numel()} numbers was expected, {elements} found")
    data = file.read(elements * storage.element_size())
    if len(data) != elements * storage.element_size():
        raise CheckpointError("it ends too early")
    storage.copy_(_tensor(data, storage.dtype))


def _tensor(data: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _persistent(load: Callable[[torch.dtype, str, int], Tensor]) -> Callable[[Any], Any]:
    """Turn the ids that torch writes for storages, and older versions for classes, into what they stand for."""

    def resolve(identity: Any) -> Any:
        kind, *rest = identity
        if kind == "module":
            return rest[0]
        if kind != "storage" or not isinstance(rest[0], Global) or rest[0].module not in ("torch", "torch.cuda"):
            raise ValueError(f"unknown persistent id {reprlib.repr(kind)}")
        storage_type, key, _, elements, *view = rest
        if view not in ([], [None]):
            raise ValueError("views of storages are not known")
        return _Slot(load(_DTYPES[storage_type.name], str(key), int(elements)))

    return resolve


def _nothing(identity: Any) -> Any:
    raise ValueError(f"unexpected persistent id {reprlib.repr(identity)}")


def _rebuild(storage: _Slot, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    elements = storage.elements
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride), default=0) < 0 or (0 not in size and last >= elements.numel()):
        raise ValueError(f"a tensor of size {tuple(size)} does not fit into its storage")
    if math.prod(size) > max(elements.numel(), _MOST_REPEATED):
        raise ValueError(f"a tensor of size {tuple(size)} repeats a storage of {elements.numel()} numbers")
    return elements.as_strided(size, stride, offset)


def _recorded(name: str) -> Callable[..., StandIn]:
    return lambda *arguments: StandIn(name, arguments)


def _reconstructed(kind: Global, *_: Any) -> StandIn:
    return StandIn(str(kind))


_CALLS: Calls = {
    "collections.OrderedDict": dict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "__builtin__.set": set,
    "__builtin__.frozenset": frozenset,
    "_codecs.encode": lambda text, _: text.encode("latin-1"),  # how protocol 2 writes bytes
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
    # What modules and training states of older versions hold beside tensors; recorded, not called.
    **{
        name: _recorded(name)
        for name in (
            "numpy.core.multiarray._reconstruct",
            "numpy.core.multiarray.scalar",
            "numpy._core.multiarray._reconstruct",
            "numpy._core.multiarray.scalar",
            "numpy.dtype",
            "torch.device",
            "torch.nn.backends.thnn._get_thnn_function_backend",
        )
    },
}
"""All that a checkpoint can have done by naming it."""
