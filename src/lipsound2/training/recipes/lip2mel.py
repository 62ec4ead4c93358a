"""Settings and a prepared folder -> the task of `lipsound2 pretrain` and `lipsound2 finetune`."""

from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Literal

import lightning_fabric
import torch
from torch import nn

from lipsound2.config import AugmentConfig, ModelConfig, in_range, paper, small
from lipsound2.data.dataset import ClipDataset, choose_entries
from lipsound2.errors import ConfigError
from lipsound2.model import LipSound2
from lipsound2.model.attention_decoder import AttentionDecoder
from lipsound2.packs import find_pack
from lipsound2.packs.pack import carry
from lipsound2.runtime.remote import is_remote
from lipsound2.settings import BASE
from lipsound2.training.begin import begun_with
from lipsound2.training.config import MelLossConfig, TrainConfig
from lipsound2.training.run import Assembled, Sources, keep_model
from lipsound2.training.tasks.lip2mel import MelTask, mel_statistics
from lipsound2.voice.encoder import DIM

SHAPES = 15
"""On a GPU, batches are padded to a multiple of so many video frames, so that few graphs are captured."""
PRESETS = {"small": small, "paper": paper}
"""Model sizes by the names of `lipsound2 pretrain --preset`."""


@dataclass(frozen=True)
class Lip2MelRecipe:
    """All settings of a run apart from its data and devices.

    Attributes:
        model: Size of the model; None is `small`, or the model that the run starts from, which cannot be changed.
        window: Square of the face that replaces the model's `VideoConfig.window`; None keeps that.
        voices: Whether the model is conditioned on speaker embeddings, so that it speaks in the voice that is asked
            for; None keeps what the model is.
        train: The loop.
        loss: The loss and scheduled sampling.
        augment: Augmentation of training clips.
        dropout: Factor on the model's dropout during this run; below 1 for a model that underfits.
        speakers: Speakers whose clips are used; empty takes all.
        clips: Number of training clips, spread evenly; 0 takes all.
        seconds: Longest stretch of a clip that is one training example; 0 takes clips whole.
        best: Metric that selects the best checkpoint: `error`, the squared error of the mel, or `estoi`.
        val_clips: Number of validation clips, spread evenly; 0 takes all.
        recompute: Activation checkpointing of the encoder, which takes less memory and more time.
        graphs: Capture the decoder's loop as CUDA graphs on a GPU.
        on_device: Cache decoded clips on the training device, in place of loader processes.
    """

    model: ModelConfig | None = field(default=None, metadata={BASE: small})
    window: tuple[int, int, int] | None = None
    voices: bool | None = None
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: MelLossConfig = field(default_factory=MelLossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    dropout: float = 1.0
    speakers: tuple[str, ...] = ()
    clips: int = 0
    seconds: float = 4.0
    best: Literal["error", "estoi"] = "error"
    val_clips: int = 200
    recompute: bool = False
    graphs: bool = True
    on_device: bool = False

    def __post_init__(self) -> None:
        if self.on_device and self.train.workers:
            raise ConfigError("on_device and workers exclude each other")
        if self.graphs and self.train.strategy == "fsdp":
            raise ConfigError("the strategy fsdp and graphs exclude each other", "add --set graphs=false")
        in_range(self, 0, inf, "dropout", "clips", "seconds", "val_clips")

    def assemble(self, sources: Sources, start: Path | str | None, fabric: lightning_fabric.Fabric) -> Assembled:
        """Open the data and the model that the run starts from."""
        if sources.generated or sources.more:
            raise ConfigError("a lip-to-mel model learns from prepared clips alone, not from generated ones")
        found = None if start is None else find_pack(start)
        model = self.listening(found.load_model()) if found else None
        asked = self._changed(self.model) if self.model else None
        config = keep_model(asked, self._changed(model.config) if model else None, lambda: self._changed(small()))
        recipe = replace(self, model=config)
        train, val = (recipe._dataset(sources.prepared, split, config) for split in ("train", "val"))
        begun = begun_with(train.entries, val.entries, model, fabric)
        test = choose_entries(sources.prepared, "test", self.speakers)

        def make(run: Path) -> MelTask:
            if found and fabric.is_global_zero:
                carry(found, run)
            return recipe._task(config, model, train, val, fabric)

        return Assembled(recipe, begun, train.entries, val.entries, test, make)

    def _changed(self, config: ModelConfig) -> ModelConfig:
        """Replace what the recipe's other settings say of the model."""
        if self.window:
            config = replace(config, video=replace(config.video, window=self.window))
        if self.voices is not None:
            config = replace(config, condition_dim=DIM if self.voices else 0)
        if config.condition_dim not in (0, DIM):
            raise ConfigError(
                f"a condition of {config.condition_dim} values was asked for, speaker embeddings have {DIM}",
                "ask for voices: true instead",
            )
        return config

    def listening(self, start: LipSound2) -> LipSound2:
        """Let a model that knows no speaker embeddings begin to listen to them: at first they change nothing."""
        config = self._changed(start.config)
        if config.condition_dim == start.config.condition_dim:
            return start
        model = LipSound2(config)
        model.load_state_dict({k: v for k, v in start.state_dict().items() if k in model.state_dict()}, strict=False)
        if config.condition_dim:
            nn.init.zeros_(model.condition.weight)
        return model

    def _dataset(self, prepared: Path, split: str, config: ModelConfig) -> ClipDataset:
        taught = split == "train"
        return ClipDataset(
            prepared,
            split,
            config.audio,
            config.video,
            augment=self.augment if taught else None,
            seed=self.train.seed,
            limit=self.clips if taught else self.val_clips,
            cache_gb=self.train.cache_gb,
            speakers=self.speakers,
            seconds=self.seconds,
            voices=bool(config.condition_dim),
        )

    def _task(
        self,
        config: ModelConfig,
        start: LipSound2 | None,
        train: ClipDataset,
        val: ClipDataset,
        fabric: lightning_fabric.Fabric,
    ) -> MelTask:
        """Build the model, and fill the cache of decoded clips."""
        if self.on_device:
            train.device = val.device = fabric.device
        if self.on_device or (self.train.workers and not is_remote(train.folder)):  # there each process has its own
            train.fill_cache()
        if fabric.device.type == "cuda":
            train.multiple = val.multiple = SHAPES
        torch.manual_seed(self.train.seed)
        model = start or LipSound2(config)
        model.encoder.recompute = self.recompute
        if isinstance(model.decoder, AttentionDecoder):
            model.decoder.graphs = self.graphs
        model.config = config
        scale_dropout(model, self.dropout)
        if start is None:
            model.set_statistics(*mel_statistics(train))
        return MelTask(model.train(), train, val, self.loss, self.train.batch_size, self.best)


def pretrain_recipe(preset: str = "small") -> Lip2MelRecipe:
    """Return the default settings of training from scratch; presets are those of `PRESETS`."""
    return Lip2MelRecipe(model=PRESETS[preset]())


def finetune_recipe() -> Lip2MelRecipe:
    """Return the default settings of fine-tuning: free-running from the start, since attention is already aligned."""
    return Lip2MelRecipe(
        train=TrainConfig(epochs=50, learning_rate=3e-4, warmup=50),
        loss=MelLossConfig(guided_weight=0.0, sampling_to=0.0),
    )


def scale_dropout(model: nn.Module, factor: float) -> None:
    """Scale the dropout of a model's layers, but not its configuration.

    Raises:
        ConfigError: A dropout rate would reach 1.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout3d):
            if layer.p * factor >= 1:
                raise ConfigError(f"a dropout factor of {factor:g} drops all of a layer", "choose a smaller one")
            layer.p *= factor
