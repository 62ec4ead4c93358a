"""A coupling in single precision -> the same coupling in 8-bit integers, which CPUs with VNNI multiply 3 times as fast.

Weights have a scale for each output, activations one for all, taken from their range at each call. What is added up,
the gates, and what follows from the result (scales, shifts, mixings) stay in single precision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

from lipsound2.vocoder.coupling import Affine, Folded

BLOCK = 1024
"""Steps that are computed together: what lies between two layers then stays in the cache."""

_HALF = 127


class Rows(NamedTuple):
    """Activations, a row a step, as (numbers - zero) * scale."""

    numbers: UInt8[Tensor, "steps channels"]
    scale: float
    zero: int


class Product(NamedTuple):
    """A weight, packed for the CPU at hand, with a scale for each output; and the bias."""

    packed: Tensor
    scale: Float[Tensor, " outputs"]
    zero: Tensor
    bias: Tensor | None


class Layer(NamedTuple):
    """What a layer multiplies by: the mel, what it sees at all taps, and its gated signal."""

    condition: Product
    dilated: Product
    pointwise: Product


class Integers(NamedTuple):
    """A coupling's weights."""

    start: tuple[Tensor, Tensor]
    layers: Sequence[Layer]
    end: Tensor


def integers_are_fast(device: torch.device) -> bool:
    """Return whether a device multiplies 8-bit integers faster than single precision, and torch can tell it to."""
    supported = getattr(torch.cpu, "_is_vnni_supported", getattr(torch.cpu, "_is_avx512_vnni_supported", None))
    if device.type != "cpu" or supported is None or not supported() or not torch.backends.mkldnn.is_available():
        return False
    try:
        weight = torch.eye(32)
        made = _times(quantize(weight), _product(weight, None))
    except (AttributeError, RuntimeError, TypeError):
        # The operators belong to torch's compiler and may change with it.
        return False
    return torch.allclose(made, weight, atol=0.05)


def to_integers(weights: Folded) -> Integers:
    """Quantize a coupling's weights."""
    count = len(weights.dilated)
    conditions = zip(*(part.chunk(count) for part in weights.condition), strict=True)
    layers = [
        Layer(
            _product(condition.squeeze(2), bias),
            _product(dilated.transpose(1, 2).flatten(1), None),
            _product(pointwise[0].squeeze(2), pointwise[1]),
        )
        for (condition, bias), dilated, pointwise in zip(conditions, weights.dilated, weights.pointwise, strict=True)
    ]
    return Integers((weights.start[0].squeeze(2), weights.start[1]), layers, weights.end)


def quantize(x: Float[Tensor, "steps channels"]) -> Rows:
    """Quantize activations by their range."""
    low, high = (float(bound) for bound in x.aminmax())
    low, high = min(low, 0.0), max(high, 0.0)
    # One number less than there are: rounding `zero` may push the highest up by half.
    scale = max((high - low) / 254, 1e-12)
    zero = round(-low / scale)
    return _rounded(x, scale, zero)


def affine(x: Float[Tensor, "1 half steps"], mel: Rows, weights: Integers, kernel: int) -> Affine:
    """Compute how to change the other half, as `Coupling` does."""
    seen = torch.nn.functional.linear(x[0].T, *weights.start)
    said = weights.end.repeat(len(seen), 1)
    for number, layer in enumerate(weights.layers):
        _apply(layer, seen, said, mel, 2**number, kernel)
    shift, log_scale = said.T[None].chunk(2, dim=1)
    return Affine(shift, log_scale)


def _apply(layer: Layer, seen: Tensor, said: Tensor, mel: Rows, dilation: int, kernel: int) -> None:
    """Add a layer's results, in place, to what the next layer sees and to what the coupling says."""
    steps, channels = seen.shape
    rows = quantize(seen)
    reach = dilation * (kernel // 2)
    padded = torch.nn.functional.pad(rows.numbers, (0, 0, reach, reach), value=rows.zero)
    for start in range(0, steps, BLOCK):
        stop = min(start + BLOCK, steps)
        taps = torch.cat([padded[start + tap * dilation : stop + tap * dilation] for tap in range(kernel)], dim=1)
        gates = _times(rows._replace(numbers=taps), layer.dilated)
        gates += _times(mel._replace(numbers=mel.numbers[start:stop]), layer.condition)
        gated = gates[:, :channels].tanh_() * gates[:, channels:].sigmoid_()
        # A gated signal lies between -1 and 1.
        made = _times(_rounded(gated, 1 / _HALF, _HALF + 1), layer.pointwise)
        more = made.shape[1] - said.shape[1]
        said[start:stop] += made[:, more:]
        if more:
            seen[start:stop] += made[:, :more]


def _rounded(x: Float[Tensor, "steps channels"], scale: float, zero: int) -> Rows:
    # Nothing lies below 0 after this, so that cutting off rounds.
    return Rows(torch.add(x.new_tensor(zero + 0.5), x, alpha=1 / scale).to(torch.uint8), scale, zero)


def _product(weight: Float[Tensor, "outputs inputs"], bias: Tensor | None) -> Product:
    scale = weight.abs().amax(dim=1).clamp(min=1e-12) / _HALF
    numbers: Int8[Tensor, "outputs inputs"] = (weight / scale[:, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(numbers, None)
    return Product(packed, scale, torch.zeros(len(weight), dtype=torch.int32), bias)


def _times(rows: Rows, by: Product) -> Float[Tensor, "steps outputs"]:
    return torch.ops.onednn.qlinear_pointwise(
        rows.numbers, rows.scale, rows.zero, *by, 1.0, 0, torch.float32, "none", [], ""
    )
