"""Training settings -> an optimiser, the learning rate of each step, and the EMA of the weights."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lipsound2.errors import ConfigError
from lipsound2.training.config import TrainConfig
from lipsound2.training.strategies import sharded_as, whole, whole_tensors

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "polynomial": lambda done: (1 - done) ** 2,
}
"""Factor on the peak learning rate by the share of the training that is done."""


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser of the settings; no weight decay on biases and normalisation layers."""
    every = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in every if parameter.ndim > 1]},
        {"params": [parameter for parameter in every if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(
                groups,
                settings.learning_rate,
                settings.betas,
                weight_decay=settings.weight_decay,
                fused=every[0].is_cuda,
            )
        case "novograd":
            return NovoGrad(groups, settings.learning_rate, settings.betas, settings.weight_decay)
        case other:
            raise ConfigError(f"unknown optimizer {other!r}", "known: adamw, novograd")


def learning_rate(settings: TrainConfig, step: int, total: int) -> float:
    """Return the learning rate of a step: linear warm-up over `warmup` steps times decay to `final_rate`."""
    if settings.schedule not in SCHEDULES:
        raise ConfigError(f"unknown schedule {settings.schedule!r}", f"known: {', '.join(SCHEDULES)}")
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    left = SCHEDULES[settings.schedule](min(1.0, step / total))
    return settings.learning_rate * warm * (settings.final_rate + (1 - settings.final_rate) * left)


def collect_slots(optimizer: Any, parameters: Sequence[Tensor]) -> dict[int, Mapping[str, Tensor]]:
    """Return the optimiser's state of each parameter, numbered as the model lists them, however they are grouped."""
    state: Mapping[Tensor, Mapping[str, Tensor]] = optimizer.optimizer.state
    return {i: whole_tensors(state[parameter]) for i, parameter in enumerate(parameters) if parameter in state}


def restore_slots(optimizer: Any, parameters: Sequence[Tensor], slots: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Give the optimiser back what `collect_slots` returned.

    Raises:
        ValueError: The state does not fit the parameters.
    """
    if slots and (set(slots) != set(range(len(parameters))) or len({frozenset(kept) for kept in slots.values()}) > 1):
        raise ValueError(f"it keeps {len(slots)} of {len(parameters)} parameters")
    for number, kept in slots.items():
        for name, value in kept.items():
            if value.numel() != 1 and value.shape != parameters[number].shape:
                raise ValueError(f"{name} of parameter {number} has the shape {tuple(value.shape)}")
    places = {id(parameter): number for number, parameter in enumerate(parameters)}
    ordered = [places[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    state = {place: _shards(slots[number], parameters[number]) for place, number in enumerate(ordered) if slots}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _shards(kept: Mapping[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    return {name: sharded_as(value, parameter) for name, value in kept.items()}


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the EMA of a model's weights towards them; what is no floating-point number is copied."""
    current, means, values = model.state_dict(), [], []
    for name, mean in average.state_dict().items():
        if mean.is_floating_point():
            means.append(mean)
            values.append(whole(current[name]))
        else:
            mean.copy_(current[name])
    torch._foreach_lerp_(means, values, 1 - decay)


class NovoGrad(torch.optim.Optimizer):
    """Stochastic gradient descent normalised layer by layer (Ginsburg et al. 2019, algorithm 1).

    Args:
        parameters: Trained parameters; each tensor is a layer.
        lr: Learning rate.
        betas: Decay rates of the mean gradient and of its squared norm.
        weight_decay: Added to the normalised gradient.
        eps: Added to the norm.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.98),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        squared = gradient.square().sum()
        if not state:
            state["mean"], state["squared norm"] = torch.zeros_like(parameter), squared
        else:
            state["squared norm"].lerp_(squared, 1 - second)
        normed = gradient / (state["squared norm"].sqrt() + group["eps"]) + group["weight_decay"] * parameter
        state["mean"].mul_(first).add_(normed)
        parameter.sub_(state["mean"], alpha=group["lr"])
