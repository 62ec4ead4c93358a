"""A pack and clips -> a report folder: what `lipsound2 evaluate` does.

    report/
      report.html     all of it in one page, with sounds to play
      summary.json    settings, versions, and each metric's mean, interval and count, row by row
      summary.md      the same as tables
      clips.csv       a line a clip and row; a cell is empty where a figure is missing
      missing.csv     for each missing figure the reason
      sounds/         what was measured, as FLAC, a folder a row

Clips are worked on in parallel, each on one thread, so that figures do not depend on how many there are.
A run that was stopped goes on where it was.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from jaxtyping import Float32

from lipsound2.atomic import atomic_path, write_text
from lipsound2.audio import log_mel
from lipsound2.config import AudioConfig
from lipsound2.data.sample import encode_wave
from lipsound2.errors import LipSoundError, StorageError
from lipsound2.evaluation import words
from lipsound2.evaluation.html import write_html
from lipsound2.evaluation.material import Item, Material, Source, load_material, open_material
from lipsound2.evaluation.metrics import UnmeasurableError
from lipsound2.evaluation.protocols import find_protocol
from lipsound2.evaluation.score import Scores, score
from lipsound2.evaluation.sound import RATE, Sound, Wave
from lipsound2.evaluation.summary import CEILING, FLOOR, PACK, SUMMARY_NAME, TRUE, ClipResult, Summary, summarize
from lipsound2.evaluation.tables import SOUNDS_NAME, sound_path, write_tables
from lipsound2.faces import Detector, MtcnnDetector
from lipsound2.packs import Pack, find_pack
from lipsound2.pipeline import Pipeline, default_device, load
from lipsound2.recognizer.recognizer import Recognizer
from lipsound2.vocoder import GriffinLim
from lipsound2.vocoder.synthesis import WaveGlowVocoder
from lipsound2.weights import WEIGHTS_NAME
from lipsound2.workers import interrupts_held_back, settle

STAGING_NAME = ".staging"
FLOOR_CLIPS = 200
"""Training clips, spread evenly, of which the mean mel is taken."""

MelFrame = Float32[np.ndarray, " mels"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """Say what is evaluated.

    Attributes:
        pack: Name of a pack, or the folder of a pack or a run.
        source: Which clips.
        vocoder: By default the pack's own choice.
        recognizers: That listen, by name; `auto` takes those at hand.
        device: A torch device; None takes the first GPU, else the CPU.
    """

    pack: str
    source: Source
    vocoder: str | None = None
    recognizers: tuple[str, ...] = (words.AUTO,)
    device: str | None = None


@dataclass(frozen=True)
class Row:
    """One of the sounds that each clip is given: what it is called in files and in tables."""

    name: str
    title: str


@dataclass(frozen=True)
class Job:
    """All that a worker needs.

    Attributes:
        settings: What is evaluated.
        vocoders: By name, as what they are asked for; the first is that of the pack's row.
        rows: In the order of the tables.
        judges: Recognisers by name.
        mean: The mean mel of the train split.
        output: Folder of the report.
        detector: Makes the face detector.
    """

    settings: Settings
    vocoders: dict[str, str]
    rows: tuple[Row, ...]
    judges: tuple[str, ...]
    mean: MelFrame = field(compare=False)
    output: Path
    detector: Callable[[], Detector]


def evaluate(
    settings: Settings,
    output: Path,
    workers: int = 0,
    force: bool = False,
    detector: Callable[[], Detector] = MtcnnDetector,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Speak clips from their silent pictures and measure them against their own sound.

    Args:
        settings: What is evaluated.
        output: Folder of the report.
        workers: Processes; 0 takes one a core, or one on a GPU.
        force: Whether to replace another report.
        detector: Makes the face detector, for folders of videos.
        progress: Told how many of how many clips are done.

    Raises:
        StorageError: `output` holds another report.
    """
    found = find_pack(settings.pack)
    items = open_material(settings.source).items
    job, note = _plan(settings, found, output, detector)
    _begin(output, _fingerprint(job, found, items), force)
    todo = [index for index in range(len(items)) if not _staged(output, index).exists()]
    progress(len(items) - len(todo), len(items))
    for done, _ in enumerate(_run(job, todo, workers), len(items) - len(todo) + 1):
        progress(done, len(items))
    results = [ClipResult.read(_staged(output, index)) for index in range(len(items))]
    summary = summarize(results, {row.name: row.title for row in job.rows}, job.judges, _facts(job, found, note))
    write_html(output, summary, results)
    write_tables(output, summary, results)
    shutil.rmtree(output / STAGING_NAME)
    return summary


def _plan(settings: Settings, found: Pack, output: Path, detector: Callable[[], Detector]) -> tuple[Job, str]:
    pipeline = load(settings.pack, settings.vocoder, "cpu")
    vocoder = pipeline.vocoder.name
    vocoders = {vocoder: settings.vocoder or found.info.vocoder, GriffinLim.name: GriffinLim.name}
    if found.waveglow:
        vocoders.setdefault(WaveGlowVocoder.name, WaveGlowVocoder.name)
    mean, note = _mean_mel(settings.source, pipeline)
    rows = [Row(PACK, f"{found.info.name}, {vocoder}")]
    rows += [Row(f"{CEILING}-{name}", f"true mel, {name}") for name in vocoders]
    rows += [Row(FLOOR, f"mean mel, {vocoder}"), Row(TRUE, "true sound")]
    protocol = settings.source.protocol
    grammar = find_protocol(protocol).grammar if protocol else None
    judges = words.find_judges(settings.recognizers, found.recognizer, grammar)
    return Job(settings, vocoders, tuple(rows), judges, mean, output, detector), note


def _mean_mel(source: Source, pipeline: Pipeline) -> tuple[MelFrame, str]:
    """Give the mean log-mel frame of the train split, else that of the pack's own training data."""
    material = load_material(replace(source, split="train", speakers=(), limit=FLOOR_CLIPS))
    audio = pipeline.model.config.audio
    mels = []
    for index in range(len(material.items)):
        wave = _caught(lambda index=index: material.true(index, audio.sample_rate))  # type: ignore[misc]
        if not isinstance(wave, str):
            mels.append(log_mel(torch.from_numpy(wave)[None], audio)[0])
    if not mels:
        return pipeline.model.mel_mean[:, 0].numpy(), "the mean mel is the pack's own, since there is no train split"
    return torch.cat(mels, dim=1).mean(dim=1).numpy(), f"the mean mel is that of {len(mels)} training clips"


def _facts(job: Job, found: Pack, note: str) -> dict[str, object]:
    source = job.settings.source
    return {
        "pack": {"name": found.info.name, "version": found.info.version, "model_sha256": _digest(found)},
        "vocoder": next(iter(job.vocoders)),
        "recognizers": list(job.judges),
        "data": source.data.resolve().name,
        "split": source.split,
        "speakers": list(source.speakers),
        "protocol": source.protocol,
        "floor": note,
    }


def _digest(found: Pack) -> str:
    return sha256((found.model_folder / WEIGHTS_NAME).read_bytes()).hexdigest()


def _fingerprint(job: Job, found: Pack, items: list[Item]) -> str:
    """Say in one text what the report is made of, so that a run is only resumed as what it was."""
    plan = asdict(job.settings) | {"source": str(job.settings.source), "model": _digest(found), "judges": job.judges}
    plan |= {"rows": [asdict(row) for row in job.rows], "mean": job.mean.tobytes().hex(), "items": items}
    return json.dumps(plan, indent=2, sort_keys=True, default=str) + "\n"


def _begin(output: Path, plan: str, force: bool) -> None:
    path = output / STAGING_NAME / "plan.json"
    if path.exists() and path.read_text(encoding="utf-8") == plan:
        return
    if (path.exists() or (output / SUMMARY_NAME).exists()) and not force:
        raise StorageError(f"{output} holds another report", "replace it with --force or choose another folder with -o")
    for name in (STAGING_NAME, SOUNDS_NAME):
        shutil.rmtree(output / name, ignore_errors=True)
    (output / SUMMARY_NAME).unlink(missing_ok=True)
    write_text(path, plan)


def _staged(output: Path, index: int) -> Path:
    return output / STAGING_NAME / f"{index:06d}.json"


def _run(job: Job, todo: list[int], workers: int) -> Iterator[int]:
    """Work on clips, in this process if one is enough."""
    device = job.settings.device or default_device()
    count = min(workers or (1 if device != "cpu" else os.cpu_count() or 1), len(todo))
    if count <= 1:
        with _one_thread():
            bench = Bench(job) if todo else None
            for index in todo:
                assert bench is not None
                bench.work(index)
                yield index
        return
    with ProcessPoolExecutor(count, get_context("spawn"), _start_worker, (job,)) as pool:
        with interrupts_held_back():
            futures = [pool.submit(_work, index) for index in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, since sums over several differ in their last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_bench: "Bench | None" = None


def _start_worker(job: Job) -> None:
    global _bench
    settle()
    torch.set_num_threads(1)
    _bench = Bench(job)


def _work(index: int) -> int:
    assert _bench is not None
    _bench.work(index)
    return index


class Bench:
    """What a worker keeps from clip to clip.

    Args:
        job: What is evaluated.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        settings = job.settings
        self.material: Material = open_material(settings.source)
        detector = job.detector()
        self.pipelines = {
            name: load(settings.pack, asked, settings.device, detector) for name, asked in job.vocoders.items()
        }
        self.pipeline = next(iter(self.pipelines.values()))
        packed, device = find_pack(settings.pack).recognizer, settings.device or default_device()
        self.judges: dict[str, Recognizer] = {name: words.load_judge(name, packed, device) for name in job.judges}

    def work(self, index: int) -> None:
        """Speak and measure a clip; what was found is staged as a file."""
        item = self.material.items[index]
        true = self._true(index)
        result = ClipResult(item.id, item.speaker, None if isinstance(true, str) else true.seconds)
        result.said = words.normalize(item.transcript) if item.transcript else ""
        for row in self.job.rows:
            made = self._made(row, index, true)
            if not isinstance(made, str):
                self._keep(row, item, made)
            result.rows[row.name] = score(true, made)
            result.heard[row.name] = self._listen(result.rows[row.name], made, item.transcript)
        result.write(_staged(self.job.output, index))

    def _true(self, index: int) -> Sound | str:
        wave = _caught(lambda: self.material.true(index, self.audio.sample_rate))
        return f"no true sound: {wave}" if isinstance(wave, str) else Sound(wave, self.audio.sample_rate)

    def _made(self, row: Row, index: int, true: Sound | str) -> Sound | str:
        if row.name == TRUE:
            return true
        wave = _caught(lambda: self._wave(row, index))
        return f"nothing was spoken: {wave}" if isinstance(wave, str) else Sound(wave, self.audio.sample_rate)

    def _wave(self, row: Row, index: int) -> Wave:
        if row.name == PACK:
            return self.material.speak(index, self.pipeline)
        mel = log_mel(torch.from_numpy(self.material.true(index, self.audio.sample_rate))[None], self.audio)[0]
        if row.name == FLOOR:
            mel = torch.from_numpy(self.job.mean)[:, None].expand(-1, mel.shape[1])
            return self._vocode(self.pipeline, mel)
        return self._vocode(self.pipelines[row.name.removeprefix(f"{CEILING}-")], mel)

    def _vocode(self, pipeline: Pipeline, mel: torch.Tensor) -> Wave:
        return pipeline.vocode(mel.contiguous().to(next(pipeline.model.parameters()).device))

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

    @property
    def audio(self) -> AudioConfig:
        """Settings of the pack's mels."""
        return self.pipeline.model.config.audio


def _caught(read: Callable[[], Wave]) -> Wave | str:
    """Give a wave, or the reason why there is none."""
    try:
        wave = read()
    except StorageError:
        raise
    except (LipSoundError, av.error.FFmpegError, cv2.error, OSError, ValueError, RuntimeError) as error:
        return str(error) or type(error).__name__
    return wave if len(wave) else "it has no length"
