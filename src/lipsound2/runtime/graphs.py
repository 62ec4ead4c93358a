"""A function of tensors -> the same function recorded once for each shape, forward and backward, as CUDA graphs.

A loop of a hundred small steps is bound by the time that it takes to launch their kernels. A graph launches all of
them at once. On other devices, and for shapes that come once only, the function is called as it is.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lipsound2.runtime.terminal import warn

Outputs = tuple[Tensor, ...]
Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Run a piece of work once and return what does the same again, on the same memory."""

MOST = 8
"""Shapes that are recorded; memory is held for each."""
WARMING = 3
"""Runs before a recording, in which libraries choose their algorithms and take their workspaces."""


def cuda_graphs() -> Record:
    """Record work as CUDA graphs that share one pool of memory.

    They may share it because a shape's backward graph is done before the forward graph of any other begins.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            work()
        return graph.replay

    return record


def plainly(work: Callable[[], None]) -> Callable[[], None]:
    """Record nothing: do the work again each time, through the same buffers; for devices without graphs."""
    work()
    return work


class Recorded:
    """A function that is recorded for each shape of its inputs from its second call with it on.

    Random numbers, such as dropout's, are drawn anew in each call, and follow `torch.manual_seed`.

    Args:
        function: Takes tensors and returns a tuple of tensors; its work must depend on shapes alone, not on values.
        parameters: What else it reads and gradients are wanted of.
        record: `cuda_graphs()` or `plainly`.
    """

    def __init__(
        self, function: Callable[..., Outputs], parameters: Callable[[], Sequence[Tensor]], record: Record
    ) -> None:
        self.function = function
        self.parameters = parameters
        self.record = record
        self.refused = False
        self._shapes: dict[Any, _Shape | None] = {}

    def __call__(self, *inputs: Tensor, training: bool) -> Outputs:
        """Call the function.

        Args:
            inputs: Its arguments.
            training: Whether its module is in training mode, which changes its work without changing shapes.
        """
        key = (training, torch.is_grad_enabled(), *((i.shape, i.dtype, i.requires_grad) for i in inputs))
        if key not in self._shapes:
            if len(self._shapes) < MOST:
                self._shapes[key] = None
            return self.function(*inputs)
        shape = self._shapes[key]
        if shape is None:
            shape = self._record(inputs)
            if shape is None:
                return self.function(*inputs)
            self._shapes[key] = shape
        return _Replay.apply(shape, *inputs, *shape.parameters)

    def _record(self, inputs: Sequence[Tensor]) -> "_Shape | None":
        """Record the function, or let it be called as it is from now on where that fails."""
        if self.refused:
            return None
        # Buffers made in inference mode could not be written to elsewhere; recording draws no random numbers.
        devices = [inputs[0].device] if inputs[0].is_cuda else []
        try:
            with torch.inference_mode(False), torch.random.fork_rng(devices):
                return _Shape(self.function, inputs, self.parameters(), self.record)
        except RuntimeError as error:
            self.refused = True
            warn(f"no CUDA graph, which makes this slower: {error}")
            return None


class _Shape:
    """The function recorded for one shape: buffers, and graphs that read and write them."""

    def __init__(
        self, function: Callable[..., Outputs], inputs: Sequence[Tensor], parameters: Sequence[Tensor], record: Record
    ) -> None:
        self.function = function
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.inputs = [i.detach().clone().requires_grad_(i.requires_grad) for i in inputs]
        self.wanted = [i for i in self.inputs if i.requires_grad] + self.parameters
        self.teaches = torch.is_grad_enabled() and bool(self.wanted)
        self.outputs: Outputs = ()
        self.gradients: list[Tensor] = []
        self.found: Sequence[Tensor | None] = ()
        with warnings.catch_warnings():
            # Gradients go to buffers here, not to the parameters, whose own stream is of no account.
            warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")
            self._warm_up()
            self.forward = record(self._forward)
            if self.teaches:
                self.backward = record(self._backward)

    def _warm_up(self) -> None:
        cuda = self.inputs[0].is_cuda
        stream = torch.cuda.Stream() if cuda else None
        if stream:
            stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMING if cuda else 1):
                self._forward()
                if self.teaches:
                    self.gradients = [torch.zeros_like(output) for output in self.outputs]
                    self._backward()
        if stream:
            torch.cuda.current_stream().wait_stream(stream)
        self.outputs, self.found = (), ()

    def _forward(self) -> None:
        self.outputs = ()
        with torch.set_grad_enabled(self.teaches):
            self.outputs = self.function(*self.inputs)

    def _backward(self) -> None:
        self.found = torch.autograd.grad(self.outputs, self.wanted, self.gradients, allow_unused=True)

    @torch.no_grad()
    def replay(self, inputs: Sequence[Tensor]) -> Outputs:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.forward()
        return tuple(output.detach().clone() for output in self.outputs)

    @torch.no_grad()
    def replay_backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        for own, given in zip(self.gradients, gradients, strict=True):
            if given is None:
                own.zero_()
            else:
                own.copy_(given)
        with torch.enable_grad():
            self.backward()
        return [None if found is None else found.detach().clone() for found in self.found]


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: _Shape, *tensors: Tensor) -> Outputs:
        ctx.shape = shape
        return shape.replay(tensors[: len(shape.inputs)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        shape: _Shape = ctx.shape
        found = iter(shape.replay_backward(gradients))
        given = [next(found) if own.requires_grad else None for own in shape.inputs]
        return None, *given, *found
