"""Memory -> mel frames, step by step: one LSTM with location-aware attention (Qu et al. 2024, section III)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lipsound2.model.attention import LocationAwareAttention


class DecoderState(NamedTuple):
    """All that one decoder step hands to the next."""

    hidden: Float[Tensor, "batch lstm_dim"]
    cell: Float[Tensor, "batch lstm_dim"]
    context: Float[Tensor, "batch memory_dim"]
    weights: Float[Tensor, "batch time"]
    cumulative: Float[Tensor, "batch time"]


class Memory(NamedTuple):
    """The encoded video as the decoder uses it at every step."""

    values: Float[Tensor, "batch time memory_dim"]
    keys: Float[Tensor, "batch time attention_dim"]
    mask: Bool[Tensor, "batch time"]


class Prenet(nn.Module):
    """Squeeze the previous frame through two layers with dropout, so that it cannot replace the video."""

    def __init__(self, inputs: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout)
        )

    def forward(self, frame: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch dim"]:
        """Compute the bottleneck."""
        return self.layers(frame)


class Decoder(nn.Module):
    """Predict `frames_per_step` mel frames a step from the previous frame and what attention finds.

    Args:
        mels: Mel bins.
        frames_per_step: The r of the literature.
        memory_dim: Size of a memory vector.
        lstm_dim: Units of the LSTM.
        attention_dim, location_filters, location_width: See `LocationAwareAttention`.
        prenet_dim: Units of the prenet; 0 feeds the previous frame as it is.
        prenet_dropout: Its dropout.
        dropout: Of the LSTM's output.
    """

    def __init__(
        self,
        mels: int,
        frames_per_step: int,
        memory_dim: int,
        lstm_dim: int,
        attention_dim: int,
        location_filters: int,
        location_width: int,
        prenet_dim: int,
        prenet_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.mels = mels
        self.frames_per_step = frames_per_step
        self.prenet = Prenet(mels, prenet_dim, prenet_dropout) if prenet_dim else nn.Identity()
        self.lstm = nn.LSTMCell((prenet_dim or mels) + memory_dim, lstm_dim)
        self.dropout = nn.Dropout(dropout)
        self.attention = LocationAwareAttention(lstm_dim, memory_dim, attention_dim, location_filters, location_width)
        self.linear = nn.Linear(lstm_dim + memory_dim, mels * frames_per_step)

    def prepare(self, values: Float[Tensor, "batch time memory_dim"], mask: Bool[Tensor, "batch time"]) -> Memory:
        """Compute once what every step needs of the memory."""
        return Memory(values, self.attention.keys(values), mask)

    def initial_state(self, memory: Memory) -> DecoderState:
        """Give the state before the first step, with all attention on the first memory vector."""
        batch, time, dim = memory.values.shape
        hidden = memory.values.new_zeros(batch, self.lstm.hidden_size)
        weights = memory.values.new_zeros(batch, time)
        weights[:, 0] = 1
        return DecoderState(hidden, hidden, memory.values.new_zeros(batch, dim), weights, weights)

    def step(
        self, previous: Float[Tensor, "batch mels"], memory: Memory, state: DecoderState
    ) -> tuple[Float[Tensor, "batch mels frames"], DecoderState]:
        """Predict the next frames from the last one and the state."""
        inputs = torch.cat([self.prenet(previous), state.context], dim=-1)
        hidden, cell = self.lstm(inputs, (state.hidden, state.cell))
        output = self.dropout(hidden)
        context, weights = self.attention(output, *memory, state.weights, state.cumulative)
        frames = self.linear(torch.cat([output, context], dim=-1)).unflatten(-1, (self.mels, self.frames_per_step))
        return frames, DecoderState(hidden, cell, context, weights, state.cumulative + weights)

    def forward(
        self,
        memory: Memory,
        steps: int,
        target: Float[Tensor, "batch mels frames"] | None = None,
        own: Bool[Tensor, "batch most_steps"] | None = None,
    ) -> tuple[Float[Tensor, "batch mels frames2"], Float[Tensor, "batch steps time"]]:
        """Run `steps` steps.

        Args:
            memory: From `prepare`.
            steps: How many; each gives `frames_per_step` frames.
            target: True frames to feed back; without them the decoder hears only itself.
            own: Where, despite `target`, a step is fed the decoder's own last frame (scheduled
                sampling, Bengio et al. 2015).

        Returns:
            Frames, and for each step the attention weights over memory.
        """
        state = self.initial_state(memory)
        previous = memory.values.new_zeros(len(memory.values), self.mels)
        frames, alignment = [], []
        for step in range(steps):
            predicted, state = self.step(previous, memory, state)
            frames.append(predicted)
            alignment.append(state.weights)
            previous = predicted[:, :, -1]
            if target is not None:
                true = target[:, :, (step + 1) * self.frames_per_step - 1]
                previous = true if own is None else torch.where(own[:, step, None], previous, true)
        return torch.cat(frames, dim=-1), torch.stack(alignment, dim=1)
