"""Prepared clips with transcripts -> a run folder: what `lipsound2 recognizer train` and `finetune` do.

The run's folder `best` is a recogniser: configuration, weights, and a language model of the training
transcripts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path

import lightning_fabric
import torch

from lipsound2.config import TrainConfig, in_range, read_config
from lipsound2.inference.recognizers import find_recognizer
from lipsound2.packs import find_pack
from lipsound2.recognizer.augment import SpeechAugmentConfig
from lipsound2.recognizer.config import PRESETS, JasperConfig, jasper_small
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.ngram import train_ngram, write_arpa
from lipsound2.recognizer.transcriber import LANGUAGE_NAME, load_jasper
from lipsound2.runtime.names import is_folder
from lipsound2.text.alphabet import Alphabet
from lipsound2.training.agreement import as_one
from lipsound2.training.begin import beginning, begun_with
from lipsound2.training.loop import fit
from lipsound2.training.recognize import JasperTask
from lipsound2.training.speech import SpeechDataset


@dataclass(frozen=True)
class RecognizerRecipe:
    """All settings of a run apart from its data and devices.

    Attributes:
        model: The recogniser; fine-tuning keeps that of the one it starts from.
        train: The loop.
        augment: How speech is varied.
        quiet_weight: Of the loss that keeps words out of silence, so that their times are right.
        speakers: Whose clips are used; empty takes all.
        clips: Training clips used of each folder, spread evenly; 0 takes all.
        order: Words that the n-grams of the language model span.
    """

    model: JasperConfig = field(default_factory=jasper_small)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            optimizer="novograd", betas=(0.95, 0.5), learning_rate=0.01, weight_decay=1e-3, warmup=100
        )
    )
    augment: SpeechAugmentConfig = field(default_factory=SpeechAugmentConfig)
    quiet_weight: float = 1.0
    speakers: tuple[str, ...] = ()
    clips: int = 0
    order: int = 3

    def __post_init__(self) -> None:
        in_range(self, 0, inf, "quiet_weight", "clips")
        in_range(self, 1, inf, "order")


def train_recipe(preset: str = "small") -> RecognizerRecipe:
    """Give the default settings of training from nothing; presets are those of `recognizer.config.PRESETS`."""
    return RecognizerRecipe(model=PRESETS[preset]())


def finetune_recipe() -> RecognizerRecipe:
    """Give the default settings of fine-tuning on generated speech."""
    base = RecognizerRecipe()
    return replace(base, train=replace(base.train, epochs=30, learning_rate=0.003, warmup=50))


def read_recipe(path: Path) -> RecognizerRecipe:
    """Read settings from JSON; what it leaves out keeps its default."""
    return read_config(path, RecognizerRecipe)


def train_recognizer(prepared: Path, run: Path, recipe: RecognizerRecipe, fabric: lightning_fabric.Fabric) -> float:
    """Train a recogniser from nothing on real speech; a run that exists is resumed.

    Returns:
        The best word error rate on the validation clips, read greedily.
    """
    return _train({"real": prepared}, run, recipe, fabric, lambda: None)


def finetune_recognizer(
    prepared: Path,
    generated: Path,
    run: Path,
    start: Path | str,
    recipe: RecognizerRecipe,
    fabric: lightning_fabric.Fabric,
    more: Sequence[Path] = (),
) -> float:
    """Train a recogniser further, on generated and real speech together; a run that exists is resumed.

    Args:
        prepared: What `lipsound2 prepare` wrote.
        generated: What `cascade.generate_speech` made of it.
        run: Folder of the new run.
        start: Folder of a recogniser, a run or a pack, or a pack by name.
        recipe: Settings; its `model` is ignored.
        fabric: Devices and precision.
        more: Folders laid out like `generated`, whose training clips are heard too.

    Returns:
        The best word error rate on the generated speech of the validation clips, read greedily.
    """

    def starting() -> Jasper:
        folder = Path(start) if is_folder(start) else find_pack(start).folder
        return load_jasper(find_recognizer(folder)).train()

    return _train({"generated": generated, "real": prepared}, run, recipe, fabric, starting, more)


def _train(
    folders: dict[str, Path],
    run: Path,
    recipe: RecognizerRecipe,
    fabric: lightning_fabric.Fabric,
    starting: Callable[[], Jasper | None],
    more: Sequence[Path] = (),
) -> float:
    fabric.launch()
    with as_one(fabric):
        start = starting()
        recipe = replace(recipe, model=start.config if start else recipe.model)
        train = _dataset([*folders.values(), *more], "train", recipe)
        val = {name: _dataset([folder], "val", recipe) for name, folder in folders.items()}
        heard = [entry for data in val.values() for _, entry in data.places]
        begun = begun_with([entry for _, entry in train.places], heard, start, fabric)
    torch.manual_seed(recipe.train.seed)
    model = start or Jasper(recipe.model)
    with beginning(run, recipe, begun, fabric):
        with as_one(fabric):
            if fabric.is_global_zero:
                write_arpa(run / "best" / LANGUAGE_NAME, train_ngram(train.sentences(), recipe.order))
        task = JasperTask(model, train, val, recipe.augment, recipe.quiet_weight, recipe.train.batch_size)
        return fit(task, recipe.train, run, fabric)


def _dataset(folders: Sequence[Path], split: str, recipe: RecognizerRecipe) -> SpeechDataset:
    return SpeechDataset(
        folders,
        split,
        Alphabet(recipe.model.alphabet),
        recipe.model.features.sample_rate,
        augment=recipe.augment if split == "train" else None,
        seed=recipe.train.seed,
        speakers=recipe.speakers,
        clips=recipe.clips,
    )
