"""Weights of a model <-> a safetensors file; nothing is pickled."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lipsound2.atomic import atomic_path
from lipsound2.errors import CheckpointError
from lipsound2.foreign import look

WEIGHTS_NAME = "model.safetensors"


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
