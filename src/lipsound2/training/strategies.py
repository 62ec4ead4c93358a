"""The name of a strategy -> how the processes of a run hold a model: each whole (DDP), or each a shard of it (FSDP).

Checkpoints, the EMA and packs always hold whole weights, so that a run may go on with another strategy.
"""

from collections.abc import Mapping
from typing import Any

import lightning_fabric
from lightning_fabric.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lipsound2.errors import ConfigError

STRATEGIES = ("auto", "ddp", "fsdp")
"""The names, as Lightning Fabric has them; `auto` is DDP where there are several processes."""


def find_strategy(name: str, processes: int) -> str | Strategy:
    """Return what Fabric takes for a strategy.

    Raises:
        ConfigError: The name is unknown, or it is for several processes and there is one.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy {name!r}", f"known: {', '.join(STRATEGIES)}")
    if name != "auto" and processes == 1:
        raise ConfigError(f"the strategy {name} is for several processes, there is 1", "give more with --devices")
    if name == "fsdp":
        return ModelParallelStrategy(_shard, data_parallel_size=processes, tensor_parallel_size=1)
    return "ddp" if processes > 1 else "auto"


def is_sharded(fabric: lightning_fabric.Fabric) -> bool:
    """Return whether each process holds a shard of the model."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def whole(tensor: Any) -> Any:
    """Return a tensor with the shards of all processes, each of which must call this; others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole tensors by name."""
    return {name: whole(tensor) for name, tensor in tensors.items()}


def own_shard(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def load_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load whole weights into a model, of which each process takes its shard."""
    set_model_state_dict(model, dict(weights), options=StateDictOptions(full_state_dict=True))


def sharded_as(value: Tensor, parameter: Tensor) -> Tensor:
    """Return this process's shard of a value that belongs to a parameter; what has another shape stays whole."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # shards have no other order of their axes
    fully_shard(model, mesh=mesh["data_parallel"])
    return model
