"""Prepared clips of known and, if available, unknown faces -> the familiarity of a pack, and its voices."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lipsound2.audio import resample
from lipsound2.corpora.clip import spread
from lipsound2.data.dataset import choose_entries
from lipsound2.data.shards import Entry, read_crops, read_wave
from lipsound2.errors import DataError
from lipsound2.model import LipSound2
from lipsound2.model.preprocess import Crops, view
from lipsound2.packs import find_pack
from lipsound2.packs.familiarity import Calibration, Familiarity, Features, Layer, Statistics, look_at
from lipsound2.packs.voices import PackVoices, from_speakers
from lipsound2.runtime.windows import evenly
from lipsound2.training.begin import RECIPE_NAME
from lipsound2.voice.encoder import RATE, embed

DIRECTIONS = 48
SHRINK = 0.1
"""Shrinkage of the covariance towards the isotropic one."""
LEAST = 1e-3
"""Smallest isotropic variance, for features of a variance of about 1."""
KNOWN = 0.97
"""Target share of the calibration clips of known faces that are classified as known."""

UNKNOWN = 0.9
"""Target share of those of unknown faces that are classified as unknown."""

Seen = Mapping[str, Sequence[Features]]
"""Features of clips by speaker; mirrored speakers have names of their own."""


@torch.inference_mode()
def features(model: LipSound2, crops: Crops, layer: Layer) -> Features:
    """Compute the features that `speak` observes, without decoding."""
    video = view(crops, model.config.video)
    frames = video.shape[1]
    size = min(model.config.window, frames)
    starts = evenly(frames, size, min(model.config.overlap, size - 1))
    parts = (video[:, start : start + size].to(model.mel_mean.device) for start in starts)
    return torch.stack([look_at(model, part, layer) for part in parts]).mean(0)


def look_at_clips(
    model: LipSound2, folder: Path, split: str, layer: Layer, speakers: Sequence[str] = (), clips: int = 0
) -> dict[str, list[Features]]:
    """Compute the features of prepared clips and of their mirror images, which are training examples too.

    Args:
        model: In evaluation mode.
        folder: What `lipsound2 prepare` wrote.
        split: `train`, `val` or `test`.
        layer: The layer whose output is compared.
        speakers: Speakers whose clips are used; empty takes all.
        clips: Number of clips per speaker, spread evenly; 0 takes all.
    """
    found: dict[str, list[Features]] = {}
    entries = choose_entries(folder, split, speakers)
    for speaker in sorted({str(entry.meta["speaker"]) for entry in entries}):
        for entry in spread([entry for entry in entries if entry.meta["speaker"] == speaker], clips):
            crops = read_crops(folder, entry, model.config.video.channels)
            found.setdefault(speaker, []).append(features(model, crops, layer))
            found.setdefault(f"{speaker} mirrored", []).append(features(model, crops.flip(-1), layer))
    return found


def fit(known: Seen, directions: int = DIRECTIONS, shrink: float = SHRINK) -> Statistics:
    """Fit a Gaussian to each speaker, with one covariance for all, in which speakers have equal weight.

    Raises:
        DataError: A speaker has fewer than two clips.
    """
    few = [speaker for speaker, clips in known.items() if len(clips) < 2]
    if few or not known:
        raise DataError(f"at least two clips of each speaker are needed, {few[0] if few else 'nobody'} has fewer")
    clips = [torch.stack(list(each)).double() for each in known.values()]
    means = torch.stack([each.mean(0) for each in clips])
    scale = torch.stack([each.var(0) for each in clips]).mean(0).sqrt()
    scale = scale.clamp(min=0.05 * float(scale.mean()))
    offset = means.mean(0)
    within = (
        torch.cat([(each - mean) / scale / (len(each) - 1) ** 0.5 for each, mean in zip(clips, means, strict=True)])
        / len(clips) ** 0.5
    )
    basis, variances, rest = _factors(within, directions, shrink)
    return Statistics(offset.float(), scale.float(), ((means - offset) / scale).float(), basis, variances, rest)


def calibrate(
    statistics: Statistics, layer: Layer, known: Iterable[Features], unknown: Iterable[Features] = ()
) -> Calibration:
    """Choose the threshold on clips that were not used for the statistics.

    With unknown clips, a share of `UNKNOWN` of them is classified as unknown, or less if otherwise less than `KNOWN` of
    the known ones were known. Without them it is three standard deviations above the mean of the known.
    """
    near = np.array([statistics.distance(each) for each in known])
    far = np.array([statistics.distance(each) for each in unknown])
    spread_of_known = max(float(near.std()), 0.05)
    middle = edge = float(np.quantile(near, KNOWN))
    if len(far):
        middle = max(edge, float(np.quantile(far, 1 - UNKNOWN)))
    else:
        middle = max(edge, float(near.mean()) + 3 * spread_of_known)
    return Calibration(layer, middle, 1 / spread_of_known, 0.5, {"known": len(near), "unknown": len(far)})


def make_familiarity(
    model: LipSound2, folder: Path, speakers: Sequence[str] = (), layer: Layer | None = None
) -> Familiarity:
    """Fit on the training clips of a prepared folder and calibrate on its validation clips."""
    chosen = layer or Layer()
    statistics = fit(look_at_clips(model, folder, "train", chosen, speakers, clips=100))
    held_out = look_at_clips(model, folder, "val", chosen, speakers, clips=20)
    known = [each for clips in held_out.values() for each in clips]
    return Familiarity(statistics, calibrate(statistics, chosen, known))


def measure_run(run: Path, folder: Path) -> tuple[Familiarity, PackVoices | None]:
    """Fit the familiarity of a run's best model to the prepared clips of the speakers in its recipe.

    Returns:
        The familiarity, and the voices of these speakers if the model is conditioned on them.

    Raises:
        DataError: A speaker has fewer than two clips.
    """
    recipe = run / RECIPE_NAME
    speakers = json.loads(recipe.read_text(encoding="utf-8")).get("speakers", []) if recipe.is_file() else []
    model = find_pack(run).load_model()
    voices = measure_voices(folder, speakers) if model.config.condition_dim else None
    return make_familiarity(model, folder, speakers), voices


def measure_voices(folder: Path, speakers: Sequence[str] = (), clips: int = 20) -> PackVoices:
    """Compute the mean speaker embedding of each speaker's training clips.

    Args:
        folder: What `lipsound2 prepare` wrote.
        speakers: Speakers whose voices are computed; empty takes all.
        clips: Number of clips per speaker, spread evenly.
    """
    found: dict[str, list[Entry]] = {}
    for entry in choose_entries(folder, "train", speakers):
        found.setdefault(str(entry.meta["speaker"]), []).append(entry)
    return from_speakers({name: _mean_voice(folder, spread(entries, clips)) for name, entries in found.items()})


def _mean_voice(folder: Path, entries: Sequence[Entry]) -> Tensor:
    waves = (resample(read_wave(folder, entry), int(str(entry.meta["sample_rate"])), RATE) for entry in entries)
    return functional.normalize(torch.from_numpy(np.stack([embed(wave) for wave in waves])).mean(0), dim=0)


def _factors(within: Tensor, directions: int, shrink: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first principal components of centred clips, their variances and the mean of the other variances."""
    _, singular, basis = torch.linalg.svd(within, full_matrices=False)
    variances = singular.square()
    size = within.shape[1]
    level = shrink * variances.sum() / size
    kept = min(directions, len(variances))
    rest = (1 - shrink) * variances[kept:].sum() / max(size - kept, 1) + level
    rest = rest.clamp(min=LEAST)
    return basis[:kept].float(), ((1 - shrink) * variances[:kept] + level).float(), rest[None].float()
