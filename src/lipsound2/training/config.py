"""Settings of a training as frozen dataclasses: of its loss, of its loop."""

from dataclasses import dataclass
from math import inf

from lipsound2.config import in_range


@dataclass(frozen=True)
class MelLossConfig:
    """Settings of the mel model's loss; epochs may be fractions.

    Attributes:
        guided_weight: Weight of the guided-attention term (Tachibana et al. 2018) at the start.
        guided_width: Width of the diagonal without penalty, as a fraction of the clip.
        guided_epochs: Epochs over which the term fades to 0.
        sampling_from: Epoch at which scheduled sampling starts.
        sampling_to: Epoch from which its probability is `sampling_share`.
        sampling_share: 0 is the paper's teacher forcing, 1 is free-running.
        correlation_weight: Weight of 1 - correlation of envelopes (see `training.correlation`), which is not in
            the paper.
        lag_from: Share of the training from which the measured lag of each clip's audio is compensated (see
            `training.lags`); 0 uses the audio as recorded.
        lag_every: Share of the training between measurements of lags.
        lag_frames: Largest lag in mel frames.
    """

    guided_weight: float = 1.0
    guided_width: float = 0.1
    guided_epochs: float = 10.0
    sampling_from: float = 0.0
    sampling_to: float = 8.0
    sampling_share: float = 1.0
    correlation_weight: float = 0.0
    lag_from: float = 0.0
    lag_every: float = 0.12
    lag_frames: int = 5

    def __post_init__(self) -> None:
        in_range(self, 0, 1, "lag_from")
        in_range(self, 0, 1, "lag_every", above=True)
        in_range(self, 1, 100, "lag_frames")
        in_range(self, 0, inf, "guided_weight", "guided_epochs", "sampling_from", "sampling_to", "correlation_weight")
        in_range(self, 0, inf, "guided_width", above=True)
        in_range(self, 0, 1, "sampling_share")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training loop.

    Attributes:
        epochs: Number of epochs.
        batch_size: Batch size per process.
        optimizer: `adamw` or `novograd`.
        betas: Decay rates of the optimiser's moments.
        learning_rate: Peak learning rate, after `warmup` steps; it decays to `final_rate` times that.
        schedule: Decay: `cosine` or `polynomial` (of the second degree).
        weight_decay: Weight decay of the optimiser.
        clip: Gradient-clipping norm.
        ema: Decay of the EMA of the weights, which is validated and saved.
        precision: `32-true` or `bf16-mixed`.
        strategy: What several processes share: `ddp` the gradients, `fsdp` also weights and the optimiser's state, of
            which each holds a part; `auto` is `ddp` where there are several.
        seed: Random seed.
        workers: Loader processes; 0 loads in the training process.
        cache_gb: Memory for decoded clips, in GB per process.
        accumulate: Gradient-accumulation steps.
        log_every: Updates between logs of the loss, which synchronise a GPU.
        validate_every: Epochs between validations.
        validate_steps: Updates between validations, in place of `validate_every`; 0 counts epochs.
        patience: Early stopping after so many validations without improvement; 0 for none.
        show_every: Validations between logs of figures and audio; 0 for none.
        checkpoint_minutes: Largest time between checkpoints.
    """

    epochs: int = 100
    batch_size: int = 16
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    final_rate: float = 0.02
    warmup: int = 200
    weight_decay: float = 1e-2
    clip: float = 1.0
    ema: float = 0.998
    precision: str = "32-true"
    strategy: str = "auto"
    seed: int = 0
    workers: int = 0
    cache_gb: float = 2.0
    validate_every: int = 1
    show_every: int = 5
    checkpoint_minutes: float = 10.0
    accumulate: int = 1
    log_every: int = 20
    validate_steps: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        in_range(self, 1, inf, "epochs", "batch_size", "validate_every", "accumulate", "log_every")
        in_range(self, 0, inf, "validate_steps", "patience")
        in_range(
            self, 0, inf, "warmup", "weight_decay", "seed", "workers", "cache_gb", "show_every", "checkpoint_minutes"
        )
        in_range(self, 0, inf, "learning_rate", "clip", above=True)
        in_range(self, 0, 1, "final_rate", "ema")
