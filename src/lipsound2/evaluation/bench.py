"""A clip of an evaluation -> its sounds, one a row, and all their figures: what one worker does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from lipsound2.audio import log_mel
from lipsound2.data.sample import encode_wave
from lipsound2.errors import LipSoundError, StorageError, guard
from lipsound2.evaluation import words
from lipsound2.evaluation.material import Item, Material, Source
from lipsound2.evaluation.metrics import Meter, UnmeasurableError, choose_meters
from lipsound2.evaluation.score import Scores, score
from lipsound2.evaluation.selection import load
from lipsound2.evaluation.sound import RATE, Sound, Wave
from lipsound2.evaluation.summary import CEILING, FLOOR, PACK, TRUE, ClipResult, all_metrics
from lipsound2.evaluation.tables import sound_path
from lipsound2.faces import Detector
from lipsound2.inference.pipeline import Pipeline
from lipsound2.packs import find_pack
from lipsound2.recognizer.base import Recognizer
from lipsound2.runtime.atomic import atomic_path
from lipsound2.runtime.devices import find_device
from lipsound2.runtime.resumable import STAGING_NAME
from lipsound2.vocoder.choose import choose_vocoder

MelFrame = Float32[np.ndarray, " mels"]


@dataclass(frozen=True)
class Settings:
    """Configure an evaluation.

    Attributes:
        pack: Name of a pack, or the folder of a pack or a run.
        source: Which clips.
        vocoder: By default the pack's own choice.
        recognizers: Recognisers by name; `auto` takes those installed.
        metrics: By name; empty takes all.
        device: A torch device; None takes the first GPU, else the CPU.
    """

    pack: str
    source: Source
    vocoder: str | None = None
    recognizers: tuple[str, ...] = (words.AUTO,)
    metrics: tuple[str, ...] = ()
    device: str | None = None


@dataclass(frozen=True)
class Row:
    """One version of each clip's audio: what it is called in files and in tables."""

    name: str
    title: str


@dataclass(frozen=True)
class Job:
    """All that a worker needs.

    Attributes:
        settings: What is evaluated.
        items: The clips.
        vocoders: By name, as what they are asked for; the first is that of the pack's row.
        rows: In the order of the tables.
        judges: Recognisers by name.
        mean: The mean mel of the train split.
        output: Folder of the report.
        detector: Makes the face detector.
    """

    settings: Settings
    items: tuple[Item, ...]
    vocoders: dict[str, str]
    rows: tuple[Row, ...]
    judges: tuple[str, ...]
    mean: MelFrame = field(compare=False)
    output: Path
    detector: Callable[[], Detector]


class Numbered(NamedTuple):
    """A clip by its number, and its id for errors."""

    number: int
    name: str


class Bench:
    """What a worker keeps from clip to clip.

    Args:
        job: What is evaluated.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        settings = job.settings
        self.meters = choose_meters(settings.metrics)
        self.material: Material = load(settings.source, job.items)
        pack, device = find_pack(settings.pack), find_device(settings.device)
        model, detector = pack.load_model(device), job.detector()
        self.audio = model.config.audio
        self.pipelines = {
            name: Pipeline(model, choose_vocoder(asked, self.audio, pack.waveglow, device), detector)
            for name, asked in job.vocoders.items()
        }
        self.pipeline = next(iter(self.pipelines.values()))
        self.judges: dict[str, Recognizer] = {
            name: words.load_judge(name, pack.recognizer, device) for name in job.judges
        }

    def work(self, index: int) -> None:
        """Speak and measure a clip; what was found, or why nothing was, is staged as a file."""
        item = self.material.items[index]
        result = _empty(item)
        try:
            with guard(item.id):
                self._measure(result, index, item)
        except StorageError:
            raise
        except LipSoundError as error:
            _give_up(result, self.job, self.meters, error.message)
        result.write(staged(self.job.output, index))

    def _measure(self, result: ClipResult, index: int, item: Item) -> None:
        true = self._true(index)
        result.seconds = None if isinstance(true, str) else true.seconds
        for row in self.job.rows:
            made = self._made(row, index, true)
            if not isinstance(made, str):
                self._keep(row, item, made)
            scores = score(true, made, self.meters)
            result.heard[row.name] = self._listen(scores, made, item.transcript)
            result.rows[row.name] = scores

    def _true(self, index: int) -> Sound | str:
        wave = caught(lambda: self.material.true(index, self.audio.sample_rate))
        return f"no reference audio: {wave}" if isinstance(wave, str) else Sound(wave, self.audio.sample_rate)

    def _made(self, row: Row, index: int, true: Sound | str) -> Sound | str:
        if row.name == TRUE:
            return true
        wave = caught(lambda: self._wave(row, index))
        return f"no generated audio: {wave}" if isinstance(wave, str) else Sound(wave, self.audio.sample_rate)

    def _wave(self, row: Row, index: int) -> Wave:
        if row.name == PACK:
            return self.material.speak(index, self.pipeline)
        mel = log_mel(torch.from_numpy(self.material.true(index, self.audio.sample_rate))[None], self.audio)[0]
        if row.name == FLOOR:
            mel = torch.from_numpy(self.job.mean)[:, None].expand(-1, mel.shape[1])
            return self._vocode(self.pipeline, mel)
        return self._vocode(self.pipelines[row.name.removeprefix(f"{CEILING}-")], mel)

    def _vocode(self, pipeline: Pipeline, mel: torch.Tensor) -> Wave:
        return pipeline.vocode(mel.contiguous().to(pipeline.model.device))

    def _listen(self, scores: Scores, made: Sound | str, transcript: str | None) -> dict[str, str]:
        """Let every recogniser listen; its error rates go to the scores."""
        heard = {}
        for name, judge in self.judges.items():
            try:
                heard[name] = words.listen(judge, made, transcript)
                words.score_words(scores, name, heard[name], str(transcript))
            except UnmeasurableError as error:
                scores.missing |= dict.fromkeys((metric.name for metric in words.metrics(name)), str(error))
        return heard

    def _keep(self, row: Row, item: Item, sound: Sound) -> None:
        with atomic_path(sound_path(self.job.output, row.name, item.id)) as temporary:
            temporary.write_bytes(encode_wave(sound.wave, RATE))


def open_bench(job: Job) -> Callable[[Numbered], None]:
    """Load what measuring needs; it computes on one thread, since sums over several differ in their last digits."""
    torch.set_num_threads(1)
    bench = Bench(job)
    return lambda clip: bench.work(clip.number)


def lost(item: Item, job: Job, meters: Sequence[Meter], reason: str) -> ClipResult:
    """Return the result of a clip without any figure."""
    result = _empty(item)
    _give_up(result, job, meters, reason)
    return result


def _empty(item: Item) -> ClipResult:
    result = ClipResult(item.id, item.speaker, None, trained=item.trained)
    result.said = words.normalize(item.transcript) if item.transcript else ""
    return result


def _give_up(result: ClipResult, job: Job, meters: Sequence[Meter], reason: str) -> None:
    """Note why the rows that a clip lacks are missing."""
    names = [metric.name for metric in all_metrics(meters, job.judges)]
    for row in job.rows:
        if row.name not in result.rows:
            result.rows[row.name] = Scores({}, dict.fromkeys(names, reason))
            result.heard[row.name] = {}


def staged(output: Path, index: int) -> Path:
    """Return where a clip's result is staged until all are done."""
    return output / STAGING_NAME / f"{index:06d}.json"


def caught(read: Callable[[], Wave]) -> Wave | str:
    """Return a wave, or the reason why there is none."""
    try:
        with guard("the clip"):
            wave = read()
    except StorageError:
        raise
    except LipSoundError as error:
        return error.message
    return wave if len(wave) else "it has no length"
