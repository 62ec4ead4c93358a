"""NVIDIA's NeMo -> golden.npz: features and small networks as NeMo itself computes them.

Only two of NeMo's files are run, on their own, so that its hundred dependencies are not needed:

    pip download --no-deps nemo_toolkit==3.0.0 && unzip -d wheel nemo_toolkit-*.whl
    python make.py wheel
"""

import importlib.util
import logging
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
FEATURES = "nemo/collections/asr/parts/preprocessing/features.py"
BLOCKS = "nemo/collections/asr/parts/submodules/jasper.py"
MELS, LABELS = 6, "ab "

COMMON = {"repeat": 1, "stride": [1], "dilation": [1], "dropout": 0.0, "residual": False}
JASPER = [
    {**COMMON, "filters": 5, "kernel": [5], "stride": [2]},
    {**COMMON, "filters": 5, "kernel": [3], "repeat": 2, "residual": True, "residual_dense": True},
    {**COMMON, "filters": 7, "kernel": [5], "repeat": 3, "residual": True, "residual_dense": True},
    {**COMMON, "filters": 8, "kernel": [5], "dilation": [2]},
    {**COMMON, "filters": 4, "kernel": [1]},
]
QUARTZNET = [
    {**COMMON, "filters": 5, "kernel": [5], "stride": [2], "separable": True},
    {**COMMON, "filters": 5, "kernel": [3], "repeat": 2, "residual": True, "separable": True},
    {**COMMON, "filters": 7, "kernel": [5], "repeat": 2, "residual": True, "separable": True},
    {**COMMON, "filters": 8, "kernel": [5], "dilation": [2], "separable": True},
    {**COMMON, "filters": 4, "kernel": [1]},
]
"""The `encoder.jasper` of two small networks, as NeMo's configurations write them."""


def waves() -> tuple[np.ndarray, np.ndarray]:
    """Make a batch of two waves, the second shorter and padded with zeros, and their lengths."""
    rng = np.random.default_rng(0)
    time = np.arange(8000) / 16_000
    chirp = 0.4 * np.sin(2 * np.pi * (200 * time + 3000 * time**2)) + 0.01 * rng.standard_normal(8000)
    noise = 0.1 * rng.standard_normal(8000) * (time < 0.3)
    return np.stack([chirp, noise]).astype(np.float32), np.array([8000, 4800])


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Make features for the small networks, the second padded with what must not matter."""
    return np.random.default_rng(1).standard_normal((2, MELS, 40)).astype(np.float32), np.array([40, 23])


def weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Draw weights by name, so that nothing needs to be kept but the result."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name in sorted(shapes):
        values = torch.from_numpy(rng.standard_normal(shapes[name]).astype(np.float32))
        drawn[name] = torch.tensor(7) if name.endswith("num_batches_tracked") else 0.3 * values
        if name.endswith("running_var"):
            drawn[name] = values.abs() + 0.5
    return drawn


def main(wheel: Path) -> None:
    """Write golden.npz."""
    features, blocks = (load(wheel, path) for path in (FEATURES, BLOCKS))
    wave, lengths = (torch.from_numpy(array) for array in waves())
    values, frames = features.FilterbankFeatures(pad_to=0, dither=0.0).eval()(wave, lengths)
    found = {"features": values.numpy(), "frames": frames.numpy()}
    for seed, (name, config) in enumerate({"jasper": JASPER, "quartznet": QUARTZNET}.items()):
        found[name] = run(blocks.JasperBlock, config, seed)
    np.savez_compressed(HERE / "golden.npz", **found)


def run(block: type, config: list[dict], seed: int) -> np.ndarray:
    """Build a network as NeMo's ConvASREncoder and ConvASRDecoder do, and give its log posteriors."""
    panes, layers, channels = [], [], MELS
    for layer in config:
        dense = []
        if layer.get("residual_dense"):
            panes.append(channels)
            dense = panes
        sizes = {name: layer[name] for name in ("repeat", "stride", "dilation", "dropout", "residual")} | {
            "kernel_size": layer["kernel"],
            "separable": layer.get("separable", False),
        }
        layers.append(
            block(channels, layer["filters"], activation=nn.ReLU(), residual_panes=dense, conv_mask=True, **sizes)
        )
        channels = layer["filters"]
    model = nn.Module()
    model.encoder, model.decoder = nn.Module(), nn.Module()
    model.encoder.encoder = nn.Sequential(*layers)
    model.decoder.decoder_layers = nn.Sequential(nn.Conv1d(channels, len(LABELS) + 1, 1))
    model.load_state_dict(weights({name: tuple(value.shape) for name, value in model.state_dict().items()}, seed))
    for module in model.eval().modules():
        if type(module).__name__ == "MaskedConv1d":
            module.update_masked_length(100, seq_range=torch.arange(100))
    values, lengths = (torch.from_numpy(array) for array in inputs())
    with torch.inference_mode():
        encoded, _ = model.encoder.encoder(([values], lengths))
        return model.decoder.decoder_layers(encoded[-1]).transpose(1, 2).log_softmax(dim=-1).numpy()


def load(wheel: Path, path: str) -> types.ModuleType:
    """Run one file of the wheel with stand-ins for what it imports of the rest."""
    for name, members in {
        "nemo.utils": {"logging": logging.getLogger()},
        "nemo.collections.asr.parts.preprocessing.perturb": {"AudioAugmentor": object},
        "nemo.collections.asr.parts.preprocessing.segment": {"AudioSegment": object},
        "nemo.collections.common.parts.utils": {"activation_registry": {}},
        "nemo.core.classes.mixins": {"AccessMixin": type("AccessMixin", (), {"is_access_enabled": lambda *_: False})},
        "nemo.core.classes.mixins.adapter_mixins": {
            "AdapterModuleMixin": type("AdapterModuleMixin", (), {"is_adapter_available": lambda _: False})
        },
    }.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
    spec = importlib.util.spec_from_file_location(Path(path).stem, wheel / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]))
