"""Parts of a flow: an invertible 1x1 convolution and an affine coupling."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lipsound2.vocoder.derived import Derived


class Affine(NamedTuple):
    """The affine transform of one half of the channels."""

    shift: Float[Tensor, "batch half steps"]
    log_scale: Float[Tensor, "batch half steps"]


class Inversion(NamedTuple):
    """Inverse and log-determinant of a mixing, as constants."""

    inverse: Float[Tensor, "channels channels"]
    log_det: Float[Tensor, ""]


class Folded(NamedTuple):
    """The folded weights of a coupling.

    Weight norm is folded. The sum over the layers and the convolution after it are linear, so that convolution is
    folded into each term of the sum; biases that are added to the same sum are one bias.

    Attributes:
        start: First convolution and its bias.
        condition: Convolution of the mel, for all layers together, and its bias.
        dilated: Dilated convolution of each layer.
        pointwise: 1x1 convolution of each layer, and its bias: rows for the next layer, then rows for the result.
        end: Bias of the result.
    """

    start: tuple[Tensor, Tensor]
    condition: tuple[Tensor, Tensor]
    dilated: Sequence[Tensor]
    pointwise: Sequence[tuple[Tensor, Tensor]]
    end: Tensor


class NormedConv(nn.Module):
    """Parameters of a convolution with weight norm: a direction and a gain per output (Salimans & Kingma 2016)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        plain = nn.Conv1d(inputs, outputs, kernel)
        self.direction = nn.Parameter(plain.weight.detach().clone())
        self.gain = nn.Parameter(self.direction.detach().norm(dim=(1, 2), keepdim=True))
        self.bias = plain.bias


class Mixing(nn.Module):
    """An invertible 1x1 convolution, initialised as a random rotation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        rotation[:, 0] *= torch.linalg.det(rotation).sign()
        self.weight = nn.Parameter(rotation.contiguous())
        self._inverse = Derived[Tensor]()

    def forward(
        self, x: Float[Tensor, "batch channels steps"], inversion: Inversion
    ) -> tuple[Float[Tensor, "batch channels steps"], Float[Tensor, ""]]:
        """Mix; the second result is the log-determinant per step."""
        # The derivative of log |det W| is the transposed inverse; the value is known.
        slope = (self.weight * inversion.inverse.T).sum()
        return self.weight @ x, inversion.log_det + (slope - slope.detach())

    def undo(
        self, x: Float[Tensor, "batch channels steps"], inversion: Inversion | None = None
    ) -> Float[Tensor, "batch channels steps"]:
        """Invert `forward`; gradients reach the weight through `inversion`."""
        if inversion is None:
            return self._inverse.of(self._inverted, [self.weight]) @ x
        # The derivative of the inverse is -inverse dW inverse; the difference is 0.
        known = inversion.inverse
        return (known - known @ (self.weight - self.weight.detach()) @ known) @ x

    def _inverted(self) -> Tensor:
        return torch.linalg.inv(self.weight.double()).to(self.weight.dtype)


def inversions(mixings: Sequence[Mixing]) -> tuple[Float[Tensor, "flows most most"], Float[Tensor, " flows"]]:
    """Invert all mixings at once, in double precision and without synchronising with a GPU.

    Returns:
        Their inverses, each in the corner of a square of the largest size, and their log-determinants.
    """
    most = max(len(mixing.weight) for mixing in mixings)
    with torch.no_grad():
        squares = torch.stack([_cornered(mixing.weight, most) for mixing in mixings]).double()
        inverses, log_dets = torch.linalg.inv_ex(squares).inverse, torch.linalg.slogdet(squares).logabsdet
    like = mixings[0].weight
    return inverses.to(like), log_dets.to(like)


def _cornered(weight: Tensor, most: int) -> Tensor:
    """Put a matrix into the corner of the identity."""
    missing = most - len(weight)
    if not missing:
        return weight
    return torch.block_diag(weight, torch.eye(missing, dtype=weight.dtype, device=weight.device))


class Coupling(nn.Module):
    """A stack of dilated, gated convolutions over one half of the channels, conditioned on the mel.

    Args:
        half: Input channels.
        condition: Channels of the upsampled mel.
        layers: Number of gated convolutions; number i has dilation 2^i.
        channels: Channels of each.
        kernel: Kernel size of each.
    """

    def __init__(self, half: int, condition: int, layers: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.start = NormedConv(half, channels)
        self.condition = NormedConv(condition, 2 * channels * layers)
        self.dilated = nn.ModuleList(NormedConv(channels, 2 * channels, kernel) for _ in range(layers))
        last = layers - 1
        self.pointwise = nn.ModuleList(
            NormedConv(channels, channels if i == last else 2 * channels) for i in range(layers)
        )
        self.end = nn.Conv1d(channels, 2 * half, 1)
        # The coupling is initialised as the identity.
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)  # type: ignore[arg-type]
        self._folded: dict[torch.dtype, Derived[Folded]] = {}

    def folded(self) -> Folded:
        """Fold the weights, in the precision of the present autocast context."""
        kind = self.end.weight.device.type
        half = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if half else self.end.weight.dtype
        derived = self._folded.setdefault(dtype, Derived())
        return derived.of(partial(self._fold, dtype), [*self.parameters()])

    def conditions(
        self, mel: Float[Tensor, "batch condition steps"], weights: Folded
    ) -> Float[Tensor, "batch gates 1 steps"]:
        """Compute the conditioning of all layers' gates."""
        return _convolve(_laid_out(mel, weights.start[0].dtype), *weights.condition)

    def forward(
        self, x: Float[Tensor, "batch half steps"], conditions: Float[Tensor, "batch gates 1 steps"], weights: Folded
    ) -> Affine:
        """Compute the affine transform of the other half."""
        hidden = _convolve(_laid_out(x, weights.start[0].dtype), *weights.start)
        output = weights.end[:, None]
        for i, condition in enumerate(conditions.chunk(len(weights.dilated), dim=1)):
            gates = _convolve(hidden, weights.dilated[i], None, 2**i)
            result = _convolve(_gated(gates, condition), *weights.pointwise[i])
            # All but the last layer have a residual to the next one.
            residual, skip = result.split([result.shape[1] - len(weights.end), len(weights.end)], dim=1)
            output = output + skip.squeeze(2).to(output.dtype)
            hidden = hidden + residual if residual.shape[1] else hidden
        shift, log_scale = output.chunk(2, dim=1)
        return Affine(shift, log_scale)

    def _fold(self, dtype: torch.dtype) -> Folded:
        with torch.autocast(self.end.weight.device.type, enabled=False):
            channels, last = self.end.weight.shape[1], len(self.dilated) - 1
            dilated = _folded_together(self.dilated).chunk(last + 1)
            pointwise = _folded_together(self.pointwise).squeeze(2)
            biases = torch.cat([layer.bias for layer in self.pointwise])  # type: ignore[misc]
            end = self.end.weight.squeeze(2)
            nexts, skips = _next_and_skip(pointwise, channels)
            next_biases, skip_biases = _next_and_skip(biases, channels)
            outputs = end @ skips
            both = torch.cat([nexts, outputs[:-1]], dim=1)[..., None].to(dtype)
            silent = torch.cat([next_biases, next_biases.new_zeros(last, len(end))], dim=1).to(dtype)
            none = silent.new_zeros(len(end))
            gates = self.condition.bias + torch.cat([layer.bias for layer in self.dilated])  # type: ignore[misc,operator]
            return Folded(
                (_folded_together([self.start]).to(dtype), self.start.bias.to(dtype)),  # type: ignore[union-attr]
                (_folded_together([self.condition]).to(dtype), gates.to(dtype)),
                [weight.to(dtype) for weight in dilated],
                [*zip(both, silent, strict=True), (outputs[-1][..., None].to(dtype), none)],
                self.end.bias + end @ skip_biases.sum(dim=0),  # type: ignore[operator]
            )


def _next_and_skip(rows: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Split the rows of all layers into those for the next layer, of all but the last, and those for the sum."""
    pairs, last = rows.split([len(rows) - channels, channels])
    nexts, skips = pairs.unflatten(0, (-1, 2, channels)).unbind(1)
    return nexts, torch.cat([skips, last[None]])


def _folded_together(layers: Sequence[nn.Module] | nn.ModuleList) -> Tensor:
    """Fold the weight norm of layers with equal inputs; their outputs are concatenated."""
    directions = torch.cat([layer.direction for layer in layers])  # type: ignore[misc]
    gains = torch.cat([layer.gain for layer in layers])  # type: ignore[misc]
    return directions * (gains / directions.norm(dim=(1, 2), keepdim=True))


def _laid_out(x: Float[Tensor, "batch channels steps"], dtype: torch.dtype) -> Float[Tensor, "batch channels 1 steps"]:
    """Return an image of height 1; on GPUs channels-last, for tensor cores."""
    layout = torch.channels_last if x.is_cuda else torch.preserve_format
    return x[:, :, None].to(dtype, memory_format=layout)


def _convolve(
    x: Float[Tensor, "batch inputs 1 steps"],
    weight: Float[Tensor, "outputs inputs kernel"],
    bias: Float[Tensor, " outputs"] | None,
    dilation: int = 1,
) -> Float[Tensor, "batch outputs 1 steps"]:
    """Convolve with the length unchanged."""
    padding = dilation * (weight.shape[2] // 2)
    return functional.conv2d(x, weight[:, :, None], bias, padding=(0, padding), dilation=(1, dilation))


def _gated(
    x: Float[Tensor, "batch doubled 1 steps"], condition: Float[Tensor, "batch doubled 1 steps"]
) -> Float[Tensor, "batch channels 1 steps"]:
    if torch.is_grad_enabled():
        signal, gate = (x + condition).chunk(2, dim=1)
        return signal.tanh() * gate.sigmoid()
    # In place: nothing is needed for a backward pass.
    signal, gate = x.add_(condition).chunk(2, dim=1)
    return signal.tanh_().mul_(gate.sigmoid_())
