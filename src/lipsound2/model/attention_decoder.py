"""Memory -> mel frames, step by step: one LSTM with location-aware attention (Qu et al. 2024, section III)."""

import copy
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lipsound2.config import AttentionDecoderConfig
from lipsound2.model.attention import Attention, LocationAwareAttention, Sought
from lipsound2.model.memory import Decoded, Memory
from lipsound2.runtime.graphs import Recorded, cuda_graphs


class DecoderState(NamedTuple):
    """State that one decoder step passes to the next."""

    hidden: Float[Tensor, "batch lstm_dim"]
    cell: Float[Tensor, "batch lstm_dim"]
    context: Float[Tensor, "batch memory_dim"]
    weights: Float[Tensor, "batch time"]
    cumulative: Float[Tensor, "batch time"]


class Prenet(nn.Module):
    """Bottleneck of two layers with dropout, so that the previous frame cannot replace the video."""

    def __init__(self, inputs: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout)
        )

    def forward(self, frame: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch dim"]:
        """Compute the bottleneck."""
        return self.layers(frame)


class AttentionDecoder(nn.Module):
    """Predict `frames_per_step` mel frames per step from the previous frame and the attention context.

    Args:
        config: Sizes.
        mels: Mel bins.
        memory_dim: Size of a memory vector.

    Attributes:
        graphs: Whether the loop is captured as a CUDA graph on a GPU.
    """

    def __init__(self, config: AttentionDecoderConfig, mels: int, memory_dim: int) -> None:
        super().__init__()
        self.mels = mels
        self.frames_per_step = config.frames_per_step
        self.prenet = Prenet(mels, config.prenet_dim, config.prenet_dropout) if config.prenet_dim else nn.Identity()
        self.lstm = nn.LSTMCell((config.prenet_dim or mels) + memory_dim, config.lstm_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.attention: Attention = LocationAwareAttention(
            config.lstm_dim, memory_dim, config.attention_dim, config.location_filters, config.location_width
        )
        self.linear = nn.Linear(config.lstm_dim + memory_dim, mels * config.frames_per_step)
        self.graphs = True
        self.recorded: Recorded | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "AttentionDecoder":
        """Copy the module without its captured graphs."""
        copied = self.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__ = {k: copy.deepcopy(v, memo) for k, v in self.__dict__.items() if k != "recorded"}
        copied.recorded = None
        return copied

    def initial_state(self, sought: Sought) -> DecoderState:
        """Return the state before the first step, with all attention on the first memory vector."""
        batch, time, dim = sought.values.shape
        hidden = sought.values.new_zeros(batch, self.lstm.hidden_size)
        weights = sought.values.new_zeros(batch, time)
        weights[:, 0] = 1
        return DecoderState(hidden, hidden, sought.values.new_zeros(batch, dim), weights, weights)

    def step(
        self, previous: Float[Tensor, "batch prenet_dim"], sought: Sought, state: DecoderState
    ) -> tuple[Float[Tensor, "batch mels frames"], DecoderState]:
        """Predict the next frames from the prenet's output for the last one and the state."""
        inputs = torch.cat([previous, state.context], dim=-1)
        hidden, cell = self.lstm(inputs, (state.hidden, state.cell))
        output = self.dropout(hidden)
        context, weights = self.attention(output, sought, state.weights, state.cumulative)
        frames = self.linear(torch.cat([output, context], dim=-1)).unflatten(-1, (self.mels, self.frames_per_step))
        return frames, DecoderState(hidden, cell, context, weights, state.cumulative + weights)

    def forward(
        self,
        memory: Memory,
        frames: int,
        target: Float[Tensor, "batch mels target_frames"] | None = None,
        own: Bool[Tensor, "batch most_steps"] | None = None,
    ) -> Decoded:
        """Decode; see `Decoder`. The length follows from the video, so there is no stop token.

        Everything is computed in float32. On a GPU the loop is a CUDA graph (see `runtime.graphs`).
        """
        steps = -(-frames // self.frames_per_step)
        inputs = [memory.values, memory.mask()]
        if target is not None:
            inputs.append(self._fed(target, steps))
            if own is not None and bool(own.any()):
                inputs.append(own[:, :steps].to(target.device, non_blocking=True))
        else:
            # The number of steps follows from the shape alone.
            inputs.append(memory.values.new_empty(steps, 0))
        with torch.autocast(memory.values.device.type, enabled=False):
            if memory.values.is_cuda and self.recorded is None and self.graphs:
                self.recorded = Recorded(self.loop, lambda: list(self.parameters()), cuda_graphs())
            run = self.loop if self.recorded is None else partial(self.recorded, training=self.training)
            mel, alignment = run(*inputs)
        return Decoded(mel[..., :frames], alignment)

    def loop(
        self,
        values: Float[Tensor, "batch time memory_dim"],
        mask: Bool[Tensor, "batch time"],
        fed: Float[Tensor, "..."],
        own: Bool[Tensor, "batch steps"] | None = None,
    ) -> tuple[Float[Tensor, "batch mels frames"], Float[Tensor, "batch steps time"]]:
        """Decode step by step; control flow depends on shapes alone.

        Args:
            values: The memory.
            mask: False at padding.
            fed: Input of each step, of shape (batch, steps, mels); or (steps, 0) for free running.
            own: Steps that are fed the decoder's own frame nevertheless.
        """
        sought = self.attention.prepare(values, mask)
        free = fed.dim() == 2
        bottlenecks = self.prenet(fed) if own is None and not free else None
        state = self.initial_state(sought)
        previous = values.new_zeros(len(values), self.mels)
        mels, alignment = [], []
        for step in range(fed.shape[0] if free else fed.shape[1]):
            if bottlenecks is not None:
                bottleneck = bottlenecks[:, step]
            else:
                if own is not None and step:
                    previous = torch.where(own[:, step - 1, None], previous, fed[:, step])
                bottleneck = self.prenet(previous)
            predicted, state = self.step(bottleneck, sought, state)
            previous = predicted[:, :, -1]
            mels.append(predicted)
            alignment.append(state.weights)
        return torch.cat(mels, dim=-1), torch.stack(alignment, dim=1)

    def _fed(self, target: Float[Tensor, "batch mels frames"], steps: int) -> Float[Tensor, "batch steps mels"]:
        """Return each step's input in teacher forcing: silence first, then the last frame of the step before."""
        last = target[:, :, self.frames_per_step - 1 :: self.frames_per_step][..., : steps - 1]
        missing = steps - 1 - last.shape[-1]
        return nn.functional.pad(last, (1, missing)).transpose(1, 2)
