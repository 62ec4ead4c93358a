"""A loss of some tensors -> the same loss, of which a GPU computes value and gradients as one CUDA graph.

A step of many small layers waits for the launch of its kernels, thousands of them, more than for their work. A graph
launches them all at once. It reads and writes the same memory each time, so inputs are copied into it and shapes are
fixed; what depends on the host (random numbers, data) stays outside.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lipsound2.runtime.terminal import warn

WARM_UP = 3
"""Runs before a capture, in which libraries choose their algorithms and take their memory."""

Parts = Mapping[str, Tensor]


class Captured:
    """A function that gives the parts of a loss, replayed where a GPU is.

    The first shapes that it is called with are captured; others are computed as they stand.

    Args:
        compute: Gives the parts, scalars that are added up, from tensors on one device.
        parameters: What it depends on besides; their memory must stay where it is.
        static: Whether to work with fixed buffers; by default where that makes a graph, on a GPU.
    """

    def __init__(
        self, compute: Callable[..., Parts], parameters: Sequence[nn.Parameter], static: bool | None = None
    ) -> None:
        self.compute = compute
        self.parameters = list(parameters)
        self.static = static
        self._step: _Static | None = None
        self._refused = False

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Return the parts of the loss; gradients of their sum reach the parameters."""
        static = inputs[0].is_cuda if self.static is None else self.static
        if not static or self._refused or not torch.is_grad_enabled():
            return dict(self.compute(*inputs))
        if self._step is None:
            try:
                self._step = _Static(self.compute, self.parameters, inputs)
            except RuntimeError as error:
                self._refused = True
                warn(f"the training step is not captured as a CUDA graph, and is slower: {error}")
                return dict(self.compute(*inputs))
        if [tensor.shape for tensor in inputs] != [tensor.shape for tensor in self._step.inputs]:
            return dict(self.compute(*inputs))
        return self._step(inputs)


class _Static:
    """Loss and gradients in fixed buffers."""

    def __init__(
        self, compute: Callable[..., Parts], parameters: Sequence[nn.Parameter], inputs: Sequence[Tensor]
    ) -> None:
        self.compute = compute
        self.parameters = parameters
        self.inputs = [tensor.clone() for tensor in inputs]
        self.names: list[str] = []
        self.values = self.inputs[0].new_zeros(0)
        self.gradients: Sequence[Tensor] = []
        self.replay = self._graph() if self.inputs[0].is_cuda else self._run

    def __call__(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self.replay()
        values = _Replayed.apply(self.values.clone(), self.gradients, *self.parameters)
        return dict(zip(self.names, values.unbind(), strict=True))

    def _run(self) -> None:
        parts = self.compute(*self.inputs)
        values = torch.stack(list(parts.values()))
        self.names, self.values = list(parts), values.detach()
        self.gradients = torch.autograd.grad(values.sum(), self.parameters)

    def _graph(self) -> Callable[[], None]:
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._run()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._run()
        return graph.replay


class _Replayed(torch.autograd.Function):
    """Parts of a loss whose sum has known gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, gradients: Sequence[Tensor], *_parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return values

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> Any:
        # All parts are added up with the same weight.
        return (None, None, *torch._foreach_mul(ctx.gradients, scale[0]))
