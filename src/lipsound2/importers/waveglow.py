"""A WaveGlow in NVIDIA's layout -> ours; no code in the file is run.

Read are whole modules (`glow.WaveGlow`) and state dicts, with weight norm or folded, with names that
begin with `module.` or not, and the older layouts with one conditioning layer a layer or with residual
and skip layers apart.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lipsound2.config import CONFIG_NAME, AudioConfig, audio_22k, to_json
from lipsound2.errors import CheckpointError, guard
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.runtime.pickle_data import StandIn
from lipsound2.runtime.torch_pickle import module_state, read_checkpoint
from lipsound2.runtime.weights import WEIGHTS_NAME, rebuild, save_weights
from lipsound2.vocoder.config import WaveGlowConfig
from lipsound2.vocoder.waveglow import WaveGlow

Weights = dict[str, Tensor]
_NAME = re.compile(r"(.*?)\.?((?:parametrizations\.weight\.original[01])|[^.]*)", re.DOTALL)
_DEEPEST = 8
"""Names below which a checkpoint may keep its model."""

_NORMS = {
    "weight_v": "direction",
    "weight_g": "gain",
    "parametrizations.weight.original1": "direction",
    "parametrizations.weight.original0": "gain",
}
"""How torch names direction and gain, then and now."""


def import_waveglow(path: Path, output: Path, force: bool = False) -> WaveGlow:
    """Write a folder that can stand for a run: `best/` holds the configuration and the weights.

    Args:
        path: A checkpoint of torch.
        output: The folder.
        force: Whether to replace what is there.

    Raises:
        CheckpointError: The file holds no WaveGlow of this layout, or the folder exists.
    """
    if output.exists() and not force:
        raise CheckpointError(f"{output} exists", "replace it with --force")
    model = read_waveglow(path)
    with atomic_path(output) as folder:
        write_text(folder / "best" / CONFIG_NAME, to_json(model.config))
        save_weights(folder / "best" / WEIGHTS_NAME, model.state_dict())
    return model


def read_waveglow(path: Path, audio: AudioConfig | None = None) -> WaveGlow:
    """Read a WaveGlow, in evaluation mode.

    Args:
        path: A checkpoint of torch.
        audio: Settings of its mels; by default those of the published weights.

    Raises:
        CheckpointError: The file holds no WaveGlow of this layout.
    """
    with guard(path):
        found = _find_weights(read_checkpoint(path), path)
        try:
            weights = _renamed(found)
            config = _config(weights, audio or audio_22k())
            ours = _ours(weights, config)
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} holds no WaveGlow in NVIDIA's layout: {error}") from error
        return rebuild(lambda: WaveGlow(config), ours, path)


def _find_weights(found: Any, path: Path) -> Weights:
    """Find the model in a checkpoint: itself, or below the usual names."""
    for _ in range(_DEEPEST):
        if not isinstance(found, dict):
            break
        inner = next((found[name] for name in ("model", "state_dict") if name in found), None)
        if inner is None:
            break
        found = inner
    if isinstance(found, StandIn):
        found = module_state(found)
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise CheckpointError(f"{path} holds no weights", "give the checkpoint of a WaveGlow")
    return {str(name).removeprefix("module."): tensor.float() for name, tensor in found.items()}


def _renamed(weights: Weights) -> Weights:
    """Split the weights of weight-normed layers into direction and gain, also where they are folded."""
    named: Weights = {}
    for name, tensor in weights.items():
        layer, kind = _NAME.fullmatch(name).groups()  # type: ignore[union-attr]
        if kind == "weight" and layer.startswith("WN.") and not layer.endswith(".end"):
            named[f"{layer}.direction"] = tensor
            named[f"{layer}.gain"] = tensor.norm(dim=(1, 2), keepdim=True)
        else:
            named[f"{layer}.{_NORMS.get(kind, kind)}"] = tensor
    return named


def _config(weights: Weights, audio: AudioConfig) -> WaveGlowConfig:
    """Read the sizes off the weights."""
    upsample = weights["upsample.weight"]
    if upsample.shape != (audio.n_mels, audio.n_mels, audio.win_length):
        raise ValueError(f"its upsampling is {tuple(upsample.shape)}, which is not for mels of {audio}")
    flows = _count(weights, r"convinv\.(\d+)\.")
    widths = [weights[f"convinv.{flow}.conv.weight"].shape[0] for flow in range(flows)]
    fewer = [flow for flow in range(1, flows) if widths[flow] != widths[flow - 1]]
    every = fewer[0] if fewer else flows
    channels, _, kernel = weights["WN.0.in_layers.0.direction"].shape
    config = WaveGlowConfig(
        audio=audio,
        group=widths[0],
        flows=flows,
        early_every=every,
        early_size=widths[0] - widths[every] if fewer else 0,
        layers=_count(weights, r"WN\.0\.in_layers\.(\d+)\."),
        channels=channels // 2,
        kernel=kernel,
        condition=audio.n_mels * widths[0],
    )
    if config.widths != widths:
        raise ValueError(f"its flows have {widths} channels")
    return config


def _ours(weights: Weights, config: WaveGlowConfig) -> Weights:
    mels, group = config.audio.n_mels, config.group
    # Unfolding the upsampled mel into groups becomes part of the upsampling.
    split = weights["upsample.weight"].unflatten(2, (-1, group)).transpose(2, 3)
    ours = {
        "upsample.weight": split.reshape(mels, mels * group, -1),
        "upsample.bias": weights["upsample.bias"].repeat_interleave(group),
    }
    for flow in range(config.flows):
        ours[f"mixings.{flow}.weight"] = weights[f"convinv.{flow}.conv.weight"][:, :, 0]
        theirs, mine = f"WN.{flow}", f"couplings.{flow}"
        for part in ("weight", "bias"):
            ours[f"{mine}.end.{part}"] = weights[f"{theirs}.end.{part}"]
        for part in ("direction", "gain", "bias"):
            ours[f"{mine}.start.{part}"] = weights[f"{theirs}.start.{part}"]
            ours[f"{mine}.condition.{part}"] = _condition(weights, theirs, part, config.layers)
            for layer in range(config.layers):
                ours[f"{mine}.dilated.{layer}.{part}"] = weights[f"{theirs}.in_layers.{layer}.{part}"]
                ours[f"{mine}.pointwise.{layer}.{part}"] = _pointwise(weights, theirs, part, layer)
    return ours


def _condition(weights: Weights, flow: str, part: str, layers: int) -> Tensor:
    """Return the conditioning of all layers; rows of weight norm are independent, so layers can be stacked."""
    whole = weights.get(f"{flow}.cond_layer.{part}")
    if whole is not None:
        return whole
    return torch.cat([weights[f"{flow}.cond_layers.{layer}.{part}"] for layer in range(layers)])


def _pointwise(weights: Weights, flow: str, part: str, layer: int) -> Tensor:
    """Return what goes on to the next layer, above what goes to the end."""
    whole = weights.get(f"{flow}.res_skip_layers.{layer}.{part}")
    if whole is not None:
        return whole
    rest = weights.get(f"{flow}.res_layers.{layer}.{part}")
    skip = weights[f"{flow}.skip_layers.{layer}.{part}"]
    return skip if rest is None else torch.cat([rest, skip])


def _count(weights: Weights, pattern: str) -> int:
    return 1 + max(int(match[1]) for name in weights if (match := re.match(pattern, name)))
