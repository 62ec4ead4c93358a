"""One flow's parts: channels are mixed, then one half of them scales and shifts the other."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lipsound2.vocoder.derived import Derived


class Affine(NamedTuple):
    """What one half of the channels does to the other."""

    shift: Float[Tensor, "batch half steps"]
    log_scale: Float[Tensor, "batch half steps"]


class NormedConv(nn.Module):
    """A convolution whose weight is a direction and a gain for each output (Salimans & Kingma 2016)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        plain = nn.Conv1d(inputs, outputs, kernel)
        self.direction = nn.Parameter(plain.weight.detach().clone())
        self.gain = nn.Parameter(self.direction.detach().norm(dim=(1, 2), keepdim=True))
        self.bias = plain.bias
        self.dilation = dilation
        self._weight = Derived(_normed)

    def forward(self, x: Float[Tensor, "batch inputs steps"]) -> Float[Tensor, "batch outputs steps"]:
        """Convolve; the length stays."""
        weight = self._weight.of(self.direction, self.gain)
        padding = self.dilation * (weight.shape[2] // 2)
        return functional.conv1d(x, weight, self.bias, padding=padding, dilation=self.dilation)


class Mixing(nn.Module):
    """An invertible 1x1 convolution; a random rotation to begin with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        rotation[:, 0] *= torch.linalg.det(rotation).sign()
        self.weight = nn.Parameter(rotation.contiguous())
        self._inverse = Derived(lambda weight: torch.linalg.inv(weight.double()).to(weight.dtype))

    def forward(
        self, x: Float[Tensor, "batch channels steps"]
    ) -> tuple[Float[Tensor, "batch channels steps"], Float[Tensor, ""]]:
        """Mix; the second result is the logarithm of the determinant of one step."""
        return self.weight @ x, torch.linalg.slogdet(self.weight)[1]

    def undo(self, x: Float[Tensor, "batch channels steps"]) -> Float[Tensor, "batch channels steps"]:
        """Undo `forward`."""
        return self._inverse.of(self.weight) @ x


class Coupling(nn.Module):
    """A stack of dilated, gated convolutions that sees one half of the channels, and the mel.

    Args:
        half: Channels it sees.
        condition: Channels of the upsampled mel.
        layers: Gated convolutions; number i is dilated by 2^i steps.
        channels: Of each.
        kernel: Width of each.
    """

    def __init__(self, half: int, condition: int, layers: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.start = NormedConv(half, channels)
        self.condition = NormedConv(condition, 2 * channels * layers)
        self.dilated = nn.ModuleList(NormedConv(channels, 2 * channels, kernel, 2**i) for i in range(layers))
        last = layers - 1
        self.pointwise = nn.ModuleList(
            NormedConv(channels, channels if i == last else 2 * channels) for i in range(layers)
        )
        self.end = nn.Conv1d(channels, 2 * half, 1)
        # It begins by changing nothing.
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "batch half steps"], mel: Float[Tensor, "batch condition steps"]) -> Affine:
        """Say how to change the other half."""
        x = self.start(x)
        conditions = self.condition(mel).chunk(len(self.dilated), dim=1)
        said = []
        for dilated, pointwise, condition in zip(self.dilated, self.pointwise, conditions, strict=True):
            made = pointwise(_gated(dilated(x), condition))
            said.append(made[:, -x.shape[1] :])
            # All but the last layer change what the next one sees.
            x = x + made[:, : -x.shape[1]] if made.shape[1] > x.shape[1] else x
        shift, log_scale = self.end(sum(said)).to(self.end.weight.dtype).chunk(2, dim=1)
        return Affine(shift, log_scale)


def _gated(
    x: Float[Tensor, "batch doubled steps"], condition: Float[Tensor, "batch doubled steps"]
) -> Float[Tensor, "batch channels steps"]:
    if torch.is_grad_enabled():
        signal, gate = (x + condition).chunk(2, dim=1)
        return signal.tanh() * gate.sigmoid()
    # In place: nothing is kept for the way back.
    signal, gate = x.add_(condition).chunk(2, dim=1)
    return signal.tanh_().mul_(gate.sigmoid_())


def _normed(direction: Tensor, gain: Tensor) -> Tensor:
    return direction * (gain / direction.norm(dim=(1, 2), keepdim=True))
