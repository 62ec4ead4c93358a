"""Minutes of material and a device -> the settings of the training, and how long it will take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import lightning_fabric
import torch

from lipsound2.config import AugmentConfig
from lipsound2.data.dataset import Place, count_parts
from lipsound2.training.config import MelLossConfig, TrainConfig
from lipsound2.training.loop import Trainer
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe
from lipsound2.training.run import Sources

UPDATES = ((120, 300), (300, 450), (720, 700), (1800, 1200), (float("inf"), 2400))
"""Up to so many seconds of training clips, so many updates on a CPU."""
GPU = 3
"""Times as many updates on a GPU, of batches four times as large."""
VALIDATIONS = 15
"""Validations in a whole training."""
PATIENCE = 4
"""Validations without improvement after which the training ends."""
FOREVER = 1e6
"""Epochs over which guided attention fades: it never does, since attention collapses on few clips without it."""
TIMED = 2
"""Updates that are timed."""


@dataclass(frozen=True)
class Plan:
    """How the model is trained.

    Attributes:
        recipe: The settings.
        updates: Most updates.
        seconds: Of one update, as measured; 0 if it was not.
    """

    recipe: Lip2MelRecipe
    updates: int
    seconds: float = 0.0

    @property
    def longest(self) -> float:
        """Seconds of the whole training, if it does not end early."""
        share = self.recipe.val_clips / self.recipe.train.batch_size / 3
        return self.seconds * (self.updates + share * VALIDATIONS)


def choose_settings(lengths: Sequence[float], val_clips: int, stretch: float, cpu: bool) -> Plan:
    """Choose the settings for so much material.

    Args:
        lengths: Of each training clip, in seconds.
        val_clips: Number of validation clips.
        stretch: Seconds of a training example.
        cpu: Whether a CPU trains.
    """
    updates = next(count for most, count in UPDATES if sum(lengths) <= most) * (1 if cpu else GPU)
    examples = sum(count_parts(length / stretch) for length in lengths)
    batch = min(4 if cpu else 16, examples)
    an_epoch = ceil(examples / batch)
    epochs = max(1, updates // an_epoch)
    updates = epochs * an_epoch
    train = TrainConfig(
        epochs=epochs,
        batch_size=batch,
        learning_rate=5e-4,
        warmup=min(40, updates // 5),
        validate_steps=max(1, updates // VALIDATIONS),
        patience=PATIENCE,
        show_every=0,
        precision="32-true" if cpu else "bf16-mixed",
    )
    loss = MelLossConfig(guided_weight=1.0, guided_epochs=FOREVER, sampling_to=0.0, correlation_weight=1.0)
    recipe = Lip2MelRecipe(
        train=train, loss=loss, augment=AugmentConfig(splice=0.2), seconds=stretch, val_clips=val_clips
    )
    return Plan(recipe, updates)


def time_it(plan: Plan, prepared: Path, start: str, fabric: lightning_fabric.Fabric) -> Plan:
    """Measure how long an update takes; nothing is kept of it."""
    torch.manual_seed(0)
    task = plan.recipe.assemble(Sources(prepared), start, fabric).make(prepared)
    trainer = Trainer(task, plan.recipe.train, None, fabric)
    size = plan.recipe.train.batch_size
    took = []
    for number in range(TIMED):
        places = [Place(number, i % len(task.train)) for i in range(size)]  # type: ignore[arg-type]
        before = time.monotonic()
        trainer.update([task.collate([task.train[place] for place in places])])
        took.append(time.monotonic() - before)
    return replace(plan, seconds=min(took))


def duration(seconds: float) -> str:
    """Return about how long something takes.

    >>> duration(40), duration(600), duration(9000)
    ('less than a minute', 'about 10 minutes', 'about 2.5 hours')
    """
    if seconds < 60:
        return "less than a minute"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
