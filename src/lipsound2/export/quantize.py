"""An ONNX graph of float32 weights -> the same with weights of 8 bits, a quarter of the size.

Matrix products and LSTMs are computed in integers, with activations quantised as they come. The weights of
convolutions, whose integer kernels are slower than floating point in onnxruntime, are scaled back to float32 when the
graph is loaded: they only become smaller.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

SMALLEST = 1024
"""Weights of fewer values stay as they are."""
IN_INTEGERS = ("encoder", "decoder")
"""Graphs whose matrix products are those of layers."""
EXACT = ("fourier",)
"""Weights of convolutions that are no layers."""
_CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}
"""Axis of the output channels of a convolution's weight, by operator."""


def quantize(path: Path, name: str) -> None:
    """Quantise the weights of a graph in its file; those of signal processing stay as they are."""
    import onnx

    if name in IN_INTEGERS:
        _in_integers(path)
    model = onnx.load(path)
    _shrink_convolutions(model)
    onnx.save(model, path)


def _in_integers(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)  # it advises to prepare graphs in a way that they do not need
    try:
        kinds = ["Gemm", "MatMul", "LSTM"]
        quantize_dynamic(path, path, op_types_to_quantize=kinds, per_channel=True, weight_type=QuantType.QInt8)
    finally:
        logger.setLevel(before)


def _shrink_convolutions(model: Any) -> None:
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    added = []
    for node in graph.node:
        name = str(node.input[1]) if node.op_type in _CONVOLUTIONS else ""
        if name not in weights or name in EXACT or not _is_large(weights[name]):
            continue
        axis = _CONVOLUTIONS[node.op_type]
        values, scale = rounded(numpy_helper.to_array(weights[name]), axis)
        graph.initializer.remove(weights.pop(name))
        names = [f"{name}_{part}" for part in ("int8", "scale", "zero")]
        parts = (values, scale, np.zeros(len(scale), np.int8))
        graph.initializer.extend(numpy_helper.from_array(*part) for part in zip(parts, names, strict=True))
        added.append(helper.make_node("DequantizeLinear", names, [name], axis=axis))
    for node in added:
        graph.node.insert(0, node)


def _is_large(weight: Any) -> bool:
    return bool(weight.data_type == 1 and np.prod(weight.dims) >= SMALLEST)


def rounded(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight in 8 bits and its scale for each channel along `axis`."""
    others = tuple(each for each in range(weight.ndim) if each != axis)
    scale = np.maximum(np.abs(weight).max(axis=others), 1e-12).astype(np.float32) / 127
    shape = [-1 if each == axis else 1 for each in range(weight.ndim)]
    return np.round(weight / scale.reshape(shape)).astype(np.int8), scale
