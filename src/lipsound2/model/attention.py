"""Decoder state and memory -> context: location-aware attention (Chorowski et al. 2015)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class LocationAwareAttention(nn.Module):
    """Weigh the memory by content and by where the previous steps looked.

    The location features are a convolution over the previous and the cumulative weights, as in
    Tacotron 2 (Shen et al. 2018).

    Args:
        query_dim: Size of the decoder's state.
        memory_dim: Size of a memory vector.
        dim: Size of the space in which both are compared.
        filters: Location filters.
        width: Their width in memory steps, odd.
    """

    def __init__(self, query_dim: int, memory_dim: int, dim: int, filters: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, dim, bias=False)
        self.memory = nn.Linear(memory_dim, dim, bias=False)
        self.location_conv = nn.Conv1d(2, filters, width, padding=width // 2, bias=False)
        self.location = nn.Linear(filters, dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.energy = nn.Linear(dim, 1, bias=False)

    def keys(self, memory: Float[Tensor, "batch time memory_dim"]) -> Float[Tensor, "batch time dim"]:
        """Project the memory once for all decoder steps."""
        return self.memory(memory)

    def forward(
        self,
        query: Float[Tensor, "batch query_dim"],
        memory: Float[Tensor, "batch time memory_dim"],
        keys: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"],
        previous: Float[Tensor, "batch time"],
        cumulative: Float[Tensor, "batch time"],
    ) -> tuple[Float[Tensor, "batch memory_dim"], Float[Tensor, "batch time"]]:
        """Give the context vector and the weights over memory steps, which sum to 1."""
        location = self.location_conv(torch.stack([previous, cumulative], dim=1)).transpose(1, 2)
        energy = self.energy(torch.tanh(self.query(query)[:, None] + keys + self.location(location) + self.bias))
        weights = energy.squeeze(-1).masked_fill(~mask, -torch.inf).softmax(dim=-1)
        return torch.bmm(weights[:, None], memory)[:, 0], weights
