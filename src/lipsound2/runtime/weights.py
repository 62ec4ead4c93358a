"""Weights of a model <-> a safetensors file; nothing is pickled."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from lipsound2.config import CONFIG_NAME, read_config
from lipsound2.errors import CheckpointError
from lipsound2.runtime.atomic import atomic_path
from lipsound2.runtime.foreign import look

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)
WEIGHTS_NAME = "model.safetensors"
_ROOM = 3
"""Parameters that a model may set for each that it keeps: one that is weight-normed is set anew as two."""


def find_weights(folder: Path, part: str) -> Path | None:
    """Find the folder with a model's weights: a part of a pack, the best of a run, or the folder itself."""
    places = (folder / part, folder / "best", folder)
    return next((place for place in places if (place / WEIGHTS_NAME).is_file()), None)


def save_weights(path: Path, weights: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Write weights as one safetensors file; floating-point ones as `dtype` if one is given."""
    with atomic_path(path) as temporary:
        # `save_file` makes files that nobody but their owner may read.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({name: _stored(tensor, dtype) for name, tensor in weights.items()}, temporary)
        temporary.chmod(mode)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    if not path.exists():
        raise CheckpointError(f"no such file: {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        found = look(path)
        raise CheckpointError(
            f"{path} {found.what}; it is not a whole safetensors file ({error})", found.hint
        ) from error


def load_folder(folder: Path, config: type[C], build: Callable[[C], M], device: torch.device | str = "cpu") -> M:
    """Rebuild a model from `config.json` and `model.safetensors` alone, in evaluation mode.

    Args:
        folder: That holds both.
        config: Class of the configuration.
        build: Builds the model by it.
        device: Where it goes.

    Raises:
        ConfigError: The configuration is none.
        CheckpointError: The weights are damaged or do not fit it.
    """
    settings, weights = read_config(folder / CONFIG_NAME, config), folder / WEIGHTS_NAME
    return rebuild(lambda: build(settings), load_weights(weights), weights).to(device)


def rebuild(make: Callable[[], M], weights: Mapping[str, Tensor], source: Path) -> M:
    """Build a model and load its weights, in evaluation mode.

    It is built without memory first, and no further than there are weights: sizes and numbers of layers in a
    configuration that do not fit the weights cost nothing.

    Args:
        make: Builds the model by its configuration.
        weights: By name.
        source: Where they come from.

    Raises:
        CheckpointError: The model does not fit the weights.
    """
    try:
        with torch.device("meta"), _at_most(len(weights), source):
            expected = {name: tensor.shape for name, tensor in make().state_dict().items()}
    except (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise CheckpointError(f"the sizes in the configuration of {source} make no sense: {error}") from error
    for name in sorted(expected.keys() | weights.keys()):
        wanted, found = expected.get(name), weights[name].shape if name in weights else None
        if wanted != found:
            shapes = [None if shape is None else tuple(shape) for shape in (wanted, found)]
            raise CheckpointError(
                f"{source} does not fit its configuration: {name} should be {shapes[0]} and is {shapes[1]}",
                "give the configuration and the weights of one model",
            )
    model = make()
    fill(model, weights, source)
    return model.eval()


@contextmanager
def _at_most(tensors: int, source: Path) -> Iterator[None]:
    """Stop a model while it is built, once it has more parameters than there are tensors for it.

    Raises:
        CheckpointError: It has.
    """
    left = _ROOM * tensors
    thread = get_ident()

    def count(_module: nn.Module, _name: str, _parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= get_ident() == thread
        if left < 0:
            raise CheckpointError(
                f"{source} does not fit its configuration: it holds {tensors} tensors, too few for the layers named",
                "give the configuration and the weights of one model",
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def fill(model: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a model of the same shape, as the model's own data types.

    Raises:
        CheckpointError: Names or shapes differ.
    """
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{source} does not fit its configuration: {first}") from error


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    # A copy, since safetensors refuses tensors that share memory.
    return (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).clone(
        memory_format=torch.contiguous_format
    )
