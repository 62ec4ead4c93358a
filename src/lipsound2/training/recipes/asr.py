"""Settings and prepared clips with transcripts -> the task of `lipsound2 recognizer train` and `finetune`.

The run's folder `best` is a recogniser: configuration, weights, and a language model of the training
transcripts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path

import lightning_fabric

from lipsound2.config import in_range
from lipsound2.data.dataset import choose_entries
from lipsound2.inference.recognizers import find_recognizer
from lipsound2.packs import find_pack
from lipsound2.recognizer.config import PRESETS, JasperConfig, jasper_small
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.ngram import train_ngram, write_arpa
from lipsound2.recognizer.transcriber import LANGUAGE_NAME, load_jasper
from lipsound2.runtime.names import is_folder
from lipsound2.settings import BASE
from lipsound2.text.alphabet import Alphabet
from lipsound2.training.augment import SpeechAugmentConfig
from lipsound2.training.begin import begun_with
from lipsound2.training.config import TrainConfig
from lipsound2.training.run import Assembled, Sources, keep_model
from lipsound2.training.speech import SpeechDataset
from lipsound2.training.tasks.asr import JasperTask


@dataclass(frozen=True)
class AsrRecipe:
    """All settings of a run apart from its data and devices.

    Attributes:
        model: The recogniser; None is `small`, or the model that the run starts from, which cannot be changed.
        train: The loop.
        augment: Augmentation of training speech.
        quiet_weight: Weight of the loss on words in silence, which keeps their times right.
        speakers: Speakers whose clips are used; empty takes all.
        clips: Number of training clips of each folder, spread evenly; 0 takes all.
        order: Order of the n-gram language model.
    """

    model: JasperConfig | None = field(default=None, metadata={BASE: jasper_small})
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

    def assemble(self, sources: Sources, start: Path | str | None, fabric: lightning_fabric.Fabric) -> Assembled:
        """Open the data and the recogniser that the run starts from.

        The best checkpoint is chosen on generated speech of the validation clips, if available.
        """
        model = None if start is None else load_jasper(find_jasper(start))
        recipe = replace(self, model=keep_model(self.model, model.config if model else None, jasper_small))
        generated = {"generated": sources.generated} if sources.generated else {}
        folders = {**generated, "real": sources.prepared}
        train = recipe._dataset([*folders.values(), *sources.more], "train")
        val = {name: recipe._dataset([folder], "val") for name, folder in folders.items()}
        validated = [entry for data in val.values() for _, entry in data.places]
        taught = [entry for _, entry in train.places]
        begun = begun_with(taught, validated, model, fabric)
        test = choose_entries(sources.prepared, "test", self.speakers)

        def make(run: Path) -> JasperTask:
            return recipe._task(model, train, val, run, fabric.is_global_zero)

        return Assembled(recipe, begun, taught, validated, test, make)

    def _config(self) -> JasperConfig:
        return self.model or jasper_small()

    def _dataset(self, folders: Sequence[Path], split: str) -> SpeechDataset:
        config = self._config()
        return SpeechDataset(
            folders,
            split,
            Alphabet(config.alphabet),
            config.features.sample_rate,
            augment=self.augment if split == "train" else None,
            seed=self.train.seed,
            speakers=self.speakers,
            clips=self.clips,
            cache_gb=self.train.cache_gb,
        )

    def _task(
        self, start: Jasper | None, train: SpeechDataset, val: dict[str, SpeechDataset], run: Path, writes: bool
    ) -> JasperTask:
        """Return the task, and write a language model of the training transcripts to the folder of the best weights."""
        if writes:
            write_arpa(run / "best" / LANGUAGE_NAME, train_ngram(train.sentences(), self.order))
        model = start.train() if start else Jasper(self._config())
        return JasperTask(model, train, val, self.augment, self.quiet_weight, self.train.batch_size)


def recognizer_recipe(preset: str = "small") -> AsrRecipe:
    """Return the default settings of training from scratch; presets are those of `recognizer.config.PRESETS`."""
    return AsrRecipe(model=PRESETS[preset]())


def finetune_recognizer_recipe() -> AsrRecipe:
    """Return the default settings of fine-tuning on generated speech."""
    base = AsrRecipe()
    return replace(base, train=replace(base.train, epochs=30, learning_rate=0.003, warmup=50))


def find_jasper(name: Path | str) -> Path:
    """Return the folder of a recogniser: itself, the best of a run, or that of a pack.

    Raises:
        CheckpointError: There is none.
    """
    return find_recognizer(Path(name) if is_folder(name) else find_pack(name).folder)
