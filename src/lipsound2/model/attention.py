"""Decoder state and memory -> context: location-aware attention (Chorowski et al. 2015)."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@runtime_checkable
class Sought(Protocol):
    """A memory as an attention looks at it: the memory itself, and whatever else the attention's steps need."""

    @property
    def values(self) -> Float[Tensor, "batch time memory_dim"]:
        """Return the memory."""
        ...


@runtime_checkable
class Attention(Protocol):
    """Decoder state and memory -> context; a module of torch. See docs/extending.md."""

    def prepare(self, memory: Float[Tensor, "batch time memory_dim"], mask: Bool[Tensor, "batch time"]) -> Sought:
        """Compute once a batch what every step needs; `mask` is where the memory is not padding."""
        ...

    def __call__(
        self,
        query: Float[Tensor, "batch query_dim"],
        sought: Any,
        previous: Float[Tensor, "batch time"],
        cumulative: Float[Tensor, "batch time"],
    ) -> tuple[Float[Tensor, "batch memory_dim"], Float[Tensor, "batch time"]]:
        """Return the context vector and the weights over memory steps, which sum to 1 and are 0 on padding.

        Args:
            query: The decoder's state.
            sought: What `prepare` returned.
            previous: The weights of the step before; at first all on the first memory vector.
            cumulative: The sum of all weights so far.
        """
        ...


class LocationAwareAttention(nn.Module):
    """Attend to the memory by content and by the previous and cumulative weights.

    The location features are a convolution over those weights, as in
    Tacotron 2 (Shen et al. 2018).

    Args:
        query_dim: Size of the decoder's state.
        memory_dim: Size of a memory vector.
        dim: Attention dimension.
        filters: Number of location filters.
        width: Their kernel size in memory steps, odd.
    """

    def __init__(self, query_dim: int, memory_dim: int, dim: int, filters: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, dim, bias=False)
        self.memory = nn.Linear(memory_dim, dim, bias=False)
        self.location_conv = nn.Conv1d(2, filters, width, padding=width // 2, bias=False)
        self.location = nn.Linear(filters, dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.energy = nn.Linear(dim, 1, bias=False)

    def prepare(self, memory: Float[Tensor, "batch time memory_dim"], mask: Bool[Tensor, "batch time"]) -> "Located":
        """Precompute what every decoder step needs.

        The convolution over the previous weights and the projection of its filters are both linear, so that one
        convolution does the work of two.
        """
        penalty = torch.zeros_like(memory[..., 0]).masked_fill(~mask, -torch.inf)
        kernel = torch.einsum("df,fcw->dcw", self.location.weight, self.location_conv.weight)
        return Located(memory, self.memory(memory) + self.bias, penalty, kernel)

    def forward(
        self,
        query: Float[Tensor, "batch query_dim"],
        sought: "Located",
        previous: Float[Tensor, "batch time"],
        cumulative: Float[Tensor, "batch time"],
    ) -> tuple[Float[Tensor, "batch memory_dim"], Float[Tensor, "batch time"]]:
        """Return the context vector and the weights over memory steps, which sum to 1."""
        history = torch.stack([previous, cumulative], dim=1)
        location = nn.functional.conv1d(history, sought.kernel, padding=sought.kernel.shape[-1] // 2).transpose(1, 2)
        energy = self.energy(torch.tanh(self.query(query)[:, None] + sought.keys + location)).squeeze(-1)
        weights = (energy + sought.penalty).softmax(dim=-1)
        return torch.bmm(weights[:, None], sought.values)[:, 0], weights


class Located(NamedTuple):
    """A memory prepared for location-aware attention.

    Attributes:
        values: The memory.
        keys: Its projection, bias included.
        penalty: Added to the energies: 0, minus infinity at padding.
        kernel: Convolution over previous and cumulative weights.
    """

    values: Float[Tensor, "batch time memory_dim"]
    keys: Float[Tensor, "batch time dim"]
    penalty: Float[Tensor, "batch time"]
    kernel: Float[Tensor, "dim 2 width"]
