"""A prepared folder -> the run of a vocoder: what `lipsound2 vocoder train` and `finetune` do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import lightning_fabric
import torch
from jaxtyping import Float
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor

from lipsound2.config import TrainConfig, in_range, read_config
from lipsound2.errors import ConfigError
from lipsound2.packs import find_pack
from lipsound2.runtime.graphs import cuda_graphs
from lipsound2.runtime.names import is_folder
from lipsound2.training.agreement import as_one
from lipsound2.training.begin import beginning, begun_with
from lipsound2.training.forced import forced_mels
from lipsound2.training.loop import fit
from lipsound2.training.segments import SegmentDataset
from lipsound2.training.vocode import VocoderTask
from lipsound2.vocoder.config import VocoderLossConfig, WaveGlowConfig, waveglow_256, waveglow_small
from lipsound2.vocoder.synthesis import load_waveglow, waveglow_folder
from lipsound2.vocoder.waveglow import WaveGlow

Progress = Callable[[int, int], None]
Mels = Mapping[str, Float[Tensor, "mels _"]]


class _WholeInputs(MixedPrecision):
    """Half precision within the networks alone: a wave has no bits to lose."""

    def convert_input(self, data: Any) -> Any:
        return data


@dataclass(frozen=True)
class VocoderRecipe:
    """All settings of a run apart from its data and devices.

    Attributes:
        model: Size of the model; fine-tuning keeps that of the model it starts from.
        train: The loop; an epoch sees `segments` of each clip.
        loss: What is taught.
        segments: Of each clip an epoch, at random places.
        graphs: Whether a step is recorded as CUDA graphs where there is a GPU.
        speakers: Whose clips are used; empty takes all.
        clips: Training clips used, spread evenly; 0 takes all.
    """

    model: WaveGlowConfig = field(default_factory=waveglow_small)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=500, batch_size=12, weight_decay=0.0, validate_every=10)
    )
    loss: VocoderLossConfig = field(default_factory=VocoderLossConfig)
    segments: int = 1
    graphs: bool = True
    speakers: tuple[str, ...] = ()
    clips: int = 0

    def __post_init__(self) -> None:
        in_range(self, 1, inf, "segments")
        in_range(self, 0, inf, "clips")


def vocoder_recipe(preset: str = "small") -> VocoderRecipe:
    """Give the default settings; presets are `small` and `nvidia`."""
    if preset == "small":
        return VocoderRecipe(loss=VocoderLossConfig(segment=25))
    recipe = VocoderRecipe(waveglow_256())
    return replace(recipe, train=replace(recipe.train, learning_rate=1e-4))


def finetune_vocoder_recipe() -> VocoderRecipe:
    """Give the default settings of fine-tuning."""
    recipe = VocoderRecipe(loss=VocoderLossConfig(segment=25))
    return replace(recipe, train=replace(recipe.train, epochs=100, learning_rate=1e-4, warmup=50))


def read_vocoder_recipe(path: Path) -> VocoderRecipe:
    """Read settings from JSON; what it leaves out keeps its default."""
    return read_config(path, VocoderRecipe)


def train_vocoder(prepared: Path, run: Path, recipe: VocoderRecipe, fabric: lightning_fabric.Fabric) -> float:
    """Train a WaveGlow from nothing on the sound of prepared clips; a run that exists is resumed.

    Returns:
        The best validation loss.
    """
    fabric.launch()
    with as_one(fabric):
        train, val = _datasets(prepared, recipe)
    return _fit(run, recipe, fabric, None, train, val)


def finetune_vocoder(
    prepared: Path,
    run: Path,
    start: Path | str,
    recipe: VocoderRecipe,
    fabric: lightning_fabric.Fabric,
    mels: Mels | None = None,
) -> float:
    """Train a WaveGlow further, on true mels or also on those that a model makes; a run that exists is resumed.

    Args:
        prepared: What `lipsound2 prepare` wrote.
        run: Folder of the new run.
        start: A folder of a WaveGlow, the folder of its run, or a pack with one.
        recipe: Settings; its `model` is ignored.
        fabric: Devices and precision.
        mels: What `mels_of` gave; they take the place of the true ones in a share of the segments.

    Returns:
        The best validation loss.
    """
    fabric.launch()
    with as_one(fabric):
        model = load_waveglow(find_waveglow(start))
        recipe = replace(recipe, model=model.config)
        train, val = _datasets(prepared, recipe)
    if mels is not None:
        train.use_generated(mels, recipe.loss.generated_share)
        val.use_generated(mels, 1.0)
    return _fit(run, recipe, fabric, model.train(), train, val)


def mels_of(
    pack: Path | str,
    prepared: Path,
    start: Path | str,
    recipe: VocoderRecipe,
    device: str | torch.device,
    progress: Progress = lambda done, total: None,
) -> Mels:
    """Make the mels of all clips with a model that is shown the true past, to fine-tune a WaveGlow on.

    Args:
        pack: A pack, or a run of a model.
        prepared: What `lipsound2 prepare` wrote.
        start: The WaveGlow, as in `finetune_vocoder`.
        recipe: Settings of the fine-tuning.
        device: A torch device.
        progress: Told how many of how many clips are done.

    Raises:
        ConfigError: The model's mels are not those that the WaveGlow wants.
    """
    model = find_pack(pack).load_model(device)
    wanted = load_waveglow(find_waveglow(start)).config
    if model.config.audio != wanted.audio:
        raise ConfigError(
            f"the model makes mels of {model.config.audio}, the vocoder wants {wanted.audio}",
            "choose a vocoder that was made for this model",
        )
    train, val = _datasets(prepared, replace(recipe, model=wanted))
    return forced_mels(model, prepared, train.entries + val.entries, progress)


def find_waveglow(name: Path | str) -> Path:
    """Find the folder of a WaveGlow: itself, the best of a run, or that of a pack.

    Raises:
        CheckpointError: There is none.
    """
    return waveglow_folder(Path(name) if is_folder(name) else find_pack(name).folder)


def _datasets(prepared: Path, recipe: VocoderRecipe) -> tuple[SegmentDataset, SegmentDataset]:
    train, val = (
        SegmentDataset(
            prepared,
            split,
            recipe.model.audio,
            recipe.loss.segment,
            recipe.model.prediction,
            recipe.train.seed,
            recipe.speakers,
            recipe.clips if split == "train" else 0,
            recipe.train.cache_gb,
            recipe.segments if split == "train" else 1,
        )
        for split in ("train", "val")
    )
    return train, val


def _fit(
    run: Path,
    recipe: VocoderRecipe,
    fabric: lightning_fabric.Fabric,
    start: WaveGlow | None,
    train: SegmentDataset,
    val: SegmentDataset,
) -> float:
    torch.manual_seed(recipe.train.seed)
    half = fabric.strategy.precision
    if isinstance(half, MixedPrecision):
        fabric.strategy.precision = _WholeInputs(half.precision, half.device)  # type: ignore[arg-type]
    begun = begun_with(train.entries, val.entries, start, fabric, train.generated)
    model = start or WaveGlow(recipe.model)
    with beginning(run, recipe, begun, fabric):
        for clips in (train, val):
            clips.hold(fabric.device)
        record = None
        if fabric.device.type == "cuda":
            # Shapes stay the same, so looking for the fastest algorithm pays.
            torch.backends.cudnn.benchmark = True
            record = cuda_graphs() if recipe.graphs else None
        task = VocoderTask(model, train, val, recipe.loss, autocast=fabric.autocast, record=record)
        return fit(task, recipe.train, run, fabric)
