"""Videos, and folders of training runs -> figures of mels, alignments and training curves."""

import json
from pathlib import Path

import torch
from matplotlib.figure import Figure

from lipsound2 import media, plots
from lipsound2.audio import log_mel
from lipsound2.errors import DataError
from lipsound2.inference import picture
from lipsound2.inference.pipeline import Pipeline
from lipsound2.inference.speech import Speech, check_targets
from lipsound2.runtime.atomic import atomic_path

METRICS_NAME = "metrics.jsonl"
MOST_CELLS = 1000
"""Cells across of the figure of an alignment, whatever the length of the video."""


def is_run(source: Path) -> bool:
    """Return whether a path is the folder of a training run."""
    return (source / METRICS_NAME).is_file()


def draw_run(run: Path, output: Path, force: bool = False) -> list[Path]:
    """Draw the validation figures of a run as `NAME-training.png`.

    Raises:
        DataError: The run has none.
    """
    try:
        records = [json.loads(line) for line in (run / METRICS_NAME).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{run / METRICS_NAME} is damaged: {error}") from error
    if not records:
        raise DataError(f"{run} was not validated yet", "wait for the end of its first epoch")
    return _save({"training": plots.training(records)}, output, run.resolve().name, run, force)


def draw_video(pipeline: Pipeline, video: Path, face: str, output: Path, force: bool = False) -> list[Path]:
    """Speak a video and draw mels, alignment and waves as `NAME-mel.png` and so on.

    Returns:
        The files.

    Raises:
        MediaError: The video cannot be read.
        FaceError: There is no such face in it.
        StorageError: A file exists.
    """
    speech = pipeline.speak(video, face)
    return _save(_figures(speech), output, video.stem, video, force)


def _figures(speech: Speech) -> dict[str, Figure]:
    """Draw a speech beside the video's own audio, if it has any."""
    mels = {"from the decoder": speech.before, "after the postnet": speech.mel}
    waves = {"generated from silent video": speech.wave}
    true = media.read_audio(speech.source, speech.sample_rate)
    if true is not None:
        mels = {"reference": log_mel(torch.from_numpy(true)[None], speech.audio)[0].numpy(), **mels}
        waves = {"reference": true, **waves}
    figures: dict[str, Figure] = {}
    if speech.alignments:
        frames = speech.seconds * speech.fps
        square = picture.overview(speech.alignments, frames, min(round(frames), MOST_CELLS))
        figures["alignment"] = plots.alignment(square.T, speech.seconds)
    return {"mel": plots.mels(mels, speech.audio), **figures, "waveform": plots.waveforms(waves, speech.sample_rate)}


def _save(figures: dict[str, Figure], output: Path, name: str, source: Path, force: bool) -> list[Path]:
    paths = {part: output / f"{name}-{part}.png" for part in figures}
    check_targets(list(paths.values()), source, force)
    for part, figure in figures.items():
        with atomic_path(paths[part]) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    return list(paths.values())
