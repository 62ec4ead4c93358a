"""Settings and a prepared folder -> the task of `lipsound2 vocoder train` and `lipsound2 vocoder finetune`."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import lightning_fabric
import torch
from lightning_fabric.plugins import MixedPrecision

from lipsound2.config import in_range
from lipsound2.data.dataset import choose_entries
from lipsound2.errors import ConfigError
from lipsound2.packs import find_pack
from lipsound2.runtime.names import is_folder
from lipsound2.settings import BASE
from lipsound2.training.begin import begun_with
from lipsound2.training.config import TrainConfig
from lipsound2.training.generated_mels import GeneratedMels, generate_mels
from lipsound2.training.run import Assembled, Sources, keep_model
from lipsound2.training.segments import SegmentDataset
from lipsound2.training.tasks.vocoder import VocoderTask
from lipsound2.vocoder.config import VocoderLossConfig, WaveGlowConfig, waveglow_256, waveglow_medium, waveglow_small
from lipsound2.vocoder.synthesis import load_waveglow, waveglow_folder
from lipsound2.vocoder.waveglow import WaveGlow

PRESETS = {"small": waveglow_small, "medium": waveglow_medium, "nvidia": waveglow_256}
"""Model sizes by the names of `lipsound2 vocoder train --preset`."""


class _WholeInputs(MixedPrecision):
    """Half precision within the networks only: waves need single precision."""

    def convert_input(self, data: Any) -> Any:
        return data


@dataclass(frozen=True)
class VocoderRecipe:
    """All settings of a run apart from its data and devices.

    Attributes:
        model: Size of the model; None is `small`, or the model that the run starts from, which cannot be changed.
        train: The loop; an epoch has `segments` of each clip.
        loss: The loss and the share of generated mels.
        segments: Number of random segments of each clip per epoch.
        graphs: Capture a step as CUDA graphs on a GPU.
        speakers: Speakers whose clips are used; empty takes all.
        clips: Number of training clips, spread evenly; 0 takes all.
    """

    model: WaveGlowConfig | None = field(default=None, metadata={BASE: waveglow_small})
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

    def assemble(self, sources: Sources, start: Path | str | None, fabric: lightning_fabric.Fabric) -> Assembled:
        """Open the data, generated mels if there are some, and the WaveGlow that the run starts from."""
        if sources.more:
            raise ConfigError("a vocoder learns from one prepared folder")
        model = None if start is None else load_waveglow(find_waveglow(start))
        recipe = replace(self, model=keep_model(self.model, model.config if model else None, waveglow_small))
        train, val = (recipe._dataset(sources.prepared, split) for split in ("train", "val"))
        mels = recipe._use_generated(sources.generated, train, val)
        begun = begun_with(train.entries, val.entries, model, fabric, mels.digest() if mels else None)
        test = choose_entries(sources.prepared, "test", self.speakers)

        def make(_: Path) -> VocoderTask:
            return recipe._task(model, train, val, fabric)

        return Assembled(recipe, begun, train.entries, val.entries, test, make)

    def _config(self) -> WaveGlowConfig:
        return self.model or waveglow_small()

    def _dataset(self, prepared: Path, split: str) -> SegmentDataset:
        config = self._config()
        return SegmentDataset(
            prepared,
            split,
            config.audio,
            self.loss.segment,
            config.prediction,
            self.train.seed,
            self.speakers,
            self.clips if split == "train" else 0,
            self.train.cache_gb,
            self.segments if split == "train" else 1,
        )

    def _use_generated(self, folder: Path | None, train: SegmentDataset, val: SegmentDataset) -> GeneratedMels | None:
        if folder is None:
            if self.loss.generated_share != VocoderLossConfig().generated_share:
                raise ConfigError("loss.generated_share does nothing without generated mels", "add --mels-of")
            return None
        mels = GeneratedMels(folder, self._config().audio)
        train.use_generated(mels, self.loss.generated_share)
        val.use_generated(mels, 1.0)
        return mels

    def _task(
        self, start: WaveGlow | None, train: SegmentDataset, val: SegmentDataset, fabric: lightning_fabric.Fabric
    ) -> VocoderTask:
        half = fabric.strategy.precision
        if isinstance(half, MixedPrecision):
            fabric.strategy.precision = _WholeInputs(half.precision, half.device)  # type: ignore[arg-type]
        model = start.train() if start else WaveGlow(self._config())
        for clips in (train, val):
            clips.hold(fabric.device)
        # Shapes are constant, so searching for the fastest GPU algorithm pays off.
        torch.backends.cudnn.benchmark = True
        return VocoderTask(model, train, val, self.loss, autocast=fabric.autocast, graphs=self.graphs)


def vocoder_recipe(preset: str = "small") -> VocoderRecipe:
    """Return the default settings of training from scratch; presets are those of `PRESETS`."""
    if preset == "small":
        return VocoderRecipe(waveglow_small(), loss=VocoderLossConfig(segment=25))
    if preset == "medium":
        return VocoderRecipe(waveglow_medium(), loss=VocoderLossConfig(segment=40))
    recipe = VocoderRecipe(PRESETS[preset]())
    return replace(recipe, train=replace(recipe.train, learning_rate=1e-4))


def finetune_vocoder_recipe() -> VocoderRecipe:
    """Return the default settings of fine-tuning."""
    recipe = VocoderRecipe(loss=VocoderLossConfig(segment=25))
    return replace(recipe, train=replace(recipe.train, epochs=100, learning_rate=1e-4, warmup=50))


def mels_for(
    start: Path | str,
    pack: Path | str,
    prepared: Path,
    output: Path,
    recipe: VocoderRecipe,
    device: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Generate the mels of a recipe's clips, for fine-tuning a WaveGlow; see `generate_mels`.

    Args:
        start: The WaveGlow, as in `find_waveglow`.
        pack: A pack, or a run of a model.
        prepared: What `lipsound2 prepare` wrote.
        output: Folder for the mels.
        recipe: Settings of the fine-tuning.
        device: A torch device.
        progress: Called with the number of clips done and the total.
    """
    audio = load_waveglow(find_waveglow(start)).config.audio
    generate_mels(prepared, pack, output, audio, recipe.speakers, recipe.clips, device, progress)


def find_waveglow(name: Path | str) -> Path:
    """Return the folder of a WaveGlow: itself, the best of a run, or that of a pack.

    Raises:
        CheckpointError: There is none.
    """
    return waveglow_folder(Path(name) if is_folder(name) else find_pack(name).folder)
