"""A prepared folder -> a run folder: what `lipsound2 pretrain` and `lipsound2 finetune` do."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Literal

import lightning_fabric
import torch
from torch import nn

from lipsound2.config import AugmentConfig, MelLossConfig, ModelConfig, TrainConfig, in_range, paper, read_config, small
from lipsound2.data.dataset import ClipDataset
from lipsound2.errors import ConfigError
from lipsound2.model import LipSound2
from lipsound2.model.attention_decoder import AttentionDecoder
from lipsound2.packs import find_pack
from lipsound2.runtime.devices import count_devices, find_device
from lipsound2.training.agreement import as_one
from lipsound2.training.begin import beginning, begun_with
from lipsound2.training.loop import fit
from lipsound2.training.mel import MelTask, mel_statistics

SHAPES = 15
"""On a GPU, batches are padded to a multiple of so many video frames, so that few graphs are recorded."""


@dataclass(frozen=True)
class Recipe:
    """All settings of a run apart from its data and devices.

    Attributes:
        model: Size of the model; fine-tuning keeps that of the model it starts from.
        window: What is looked at instead of the model's `VideoConfig.window`; None keeps that.
        train: The loop.
        loss: What is taught.
        augment: How clips are varied.
        dropout: Factor on the model's dropout while this run trains it; below 1 for a model that errs as much on
            training clips as on others.
        speakers: Whose clips are used; empty takes all.
        clips: Training clips used, spread evenly; 0 takes all.
        seconds: Longest stretch of a clip that is one training example; 0 takes clips whole.
        best: What the best checkpoint is chosen by: `error`, the squared error of the mel, or `estoi`.
        val_clips: Validation clips used, spread evenly; 0 takes all.
        recompute: Compute the encoder's blocks again for their gradient, which takes less memory and more time.
        graphs: Record the decoder's loop as CUDA graphs where there is a GPU.
        on_device: Keep decoded clips on the device that trains, in the place of processes that load data.
    """

    model: ModelConfig = field(default_factory=small)
    window: tuple[int, int, int] | None = None
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: MelLossConfig = field(default_factory=MelLossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    dropout: float = 1.0
    speakers: tuple[str, ...] = ()
    clips: int = 0
    seconds: float = 0.0
    best: Literal["error", "estoi"] = "error"
    val_clips: int = 200
    recompute: bool = False
    graphs: bool = True
    on_device: bool = False

    def __post_init__(self) -> None:
        if self.on_device and self.train.workers:
            raise ConfigError("on_device and workers exclude each other")
        in_range(self, 0, inf, "dropout", "clips", "seconds", "val_clips")


def pretrain_recipe(preset: str = "small") -> Recipe:
    """Give the default settings of pre-training; presets are `small` and `paper`."""
    return Recipe(model={"small": small, "paper": paper}[preset]())


def finetune_recipe() -> Recipe:
    """Give the default settings of fine-tuning: the model already reads along, so it runs free from the start."""
    return Recipe(
        train=TrainConfig(epochs=50, learning_rate=3e-4, warmup=50),
        loss=MelLossConfig(guided_weight=0.0, sampling_to=0.0),
    )


def read_recipe(path: Path) -> Recipe:
    """Read settings from JSON; what it leaves out keeps its default."""
    return read_config(path, Recipe)


def pretrain(prepared: Path, run: Path, recipe: Recipe, fabric: lightning_fabric.Fabric) -> float:
    """Train a model from nothing on the sound tracks of prepared clips; a run that exists is resumed.

    Returns:
        The best free-running validation error.
    """
    return _train(prepared, run, recipe, fabric, lambda: None)


def finetune(prepared: Path, run: Path, start: Path | str, recipe: Recipe, fabric: lightning_fabric.Fabric) -> float:
    """Train a run's or a pack's model further on other clips; a run that exists is resumed.

    Args:
        prepared: What `lipsound2 prepare` wrote.
        run: Folder of the new run.
        start: A run folder, or a pack by name or folder.
        recipe: Settings; its `model` is ignored.
        fabric: Devices and precision.

    Returns:
        The best free-running validation error.
    """
    return _train(prepared, run, recipe, fabric, lambda: find_pack(start).load_model())


def make_fabric(device: str, devices: int, precision: str) -> lightning_fabric.Fabric:
    """Choose devices and processes.

    Under torchrun or `fabric run` the number of processes and nodes is theirs.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        devices: Processes on this machine.
        precision: See `TrainConfig`.

    Raises:
        ConfigError: There is no such device, or there are not so many.
    """
    kind, _, number = find_device(device).partition(":")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = int(os.environ.get("WORLD_SIZE", local)) // local
    most = count_devices(kind)
    if local > (1 if number else most or local):
        raise ConfigError(f"{local} processes for {1 if number else most} of {device}", "give fewer with --devices")
    strategy = "ddp" if local * nodes > 1 else "auto"
    return lightning_fabric.Fabric(
        accelerator=kind,
        devices=[int(number)] if number and kind != "cpu" else local,
        num_nodes=nodes,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
    )


def scale_dropout(model: nn.Module, factor: float) -> None:
    """Change the dropout of a model's layers, but not its configuration.

    Raises:
        ConfigError: A share of dropout would reach 1.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout3d):
            if layer.p * factor >= 1:
                raise ConfigError(f"a dropout factor of {factor:g} drops all of a layer", "choose a smaller one")
            layer.p *= factor


def _train(
    prepared: Path, run: Path, recipe: Recipe, fabric: lightning_fabric.Fabric, starting: Callable[[], LipSound2 | None]
) -> float:
    fabric.launch()
    with as_one(fabric):
        start = starting()
        recipe = replace(recipe, model=_looking_at(start.config if start else recipe.model, recipe.window))
        train = _dataset(prepared, "train", recipe)
        val = _dataset(prepared, "val", replace(recipe, clips=recipe.val_clips, seconds=0.0))
        begun = begun_with(train.entries, val.entries, start, fabric)
    with beginning(run, recipe, begun, fabric):
        with as_one(fabric):
            model = _model(recipe, start, train, val, fabric)
        task = MelTask(model.train(), train, val, recipe.loss, recipe.train.batch_size, recipe.best)
        return fit(task, recipe.train, run, fabric)


def _looking_at(config: ModelConfig, window: tuple[int, int, int] | None) -> ModelConfig:
    return replace(config, video=replace(config.video, window=window)) if window else config


def _model(
    recipe: Recipe, start: LipSound2 | None, train: ClipDataset, val: ClipDataset, fabric: lightning_fabric.Fabric
) -> LipSound2:
    """Make the model, and decode the clips that are kept."""
    if recipe.on_device:
        train.device = val.device = fabric.device
    if recipe.on_device or recipe.train.workers:
        train.fill_cache()
    torch.manual_seed(recipe.train.seed)
    if fabric.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        train.multiple = val.multiple = SHAPES
    model = start or LipSound2(recipe.model)
    model.encoder.recompute = recipe.recompute
    if isinstance(model.decoder, AttentionDecoder):
        model.decoder.graphs = recipe.graphs
    model.config = recipe.model
    scale_dropout(model, recipe.dropout)
    if start is None:
        model.set_statistics(*mel_statistics(train))
    return model


def _dataset(prepared: Path, split: str, recipe: Recipe) -> ClipDataset:
    return ClipDataset(
        prepared,
        split,
        recipe.model.audio,
        recipe.model.video,
        augment=recipe.augment if split == "train" else None,
        seed=recipe.train.seed,
        limit=recipe.clips,
        cache_gb=recipe.train.cache_gb,
        speakers=recipe.speakers,
        seconds=recipe.seconds,
    )
