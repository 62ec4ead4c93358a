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
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import torch

from lipsound2.audio import log_mel
from lipsound2.corpora.protocols import find_protocol
from lipsound2.errors import LipSoundError, StorageError
from lipsound2.evaluation import words
from lipsound2.evaluation.bench import STAGING_NAME, Bench, Job, MelFrame, Row, Settings, caught, staged
from lipsound2.evaluation.html import write_html
from lipsound2.evaluation.material import Item, Source, load_material, open_material
from lipsound2.evaluation.metrics import choose_meters
from lipsound2.evaluation.summary import (
    CEILING,
    FLOOR,
    PACK,
    SUMMARY_NAME,
    TRUE,
    ClipResult,
    Summary,
    all_metrics,
    summarize,
)
from lipsound2.evaluation.tables import SOUNDS_NAME, write_tables
from lipsound2.faces import Detector, MtcnnDetector
from lipsound2.inference.pipeline import Pipeline, load
from lipsound2.packs import Pack, find_pack
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.claims import claim
from lipsound2.runtime.devices import find_device
from lipsound2.runtime.plans import differences, read_plan
from lipsound2.runtime.weights import WEIGHTS_NAME
from lipsound2.runtime.workers import interrupts_held_back, settle
from lipsound2.vocoder import GriffinLim
from lipsound2.vocoder.synthesis import WaveGlowVocoder

FLOOR_CLIPS = 200
"""Training clips, spread evenly, of which the mean mel is taken."""

Progress = Callable[[int, int], None]


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
        StorageError: `output` holds another report, or another process works in it.
        DataError: There are no clips.
        ConfigError: There is no such metric or protocol.
    """
    found = find_pack(settings.pack)
    meters = choose_meters(settings.metrics)
    items = open_material(settings.source).items
    job, note = _plan(settings, found, output, detector)
    with claim(output, "evaluate"):
        _begin(output, _fingerprint(job, found, items), force)
        results = _results(job, items, workers, progress)
        titles = {row.name: row.title for row in job.rows}
        summary = summarize(results, titles, all_metrics(meters, job.judges), _facts(job, found, note))
        write_html(output, summary, results)
        write_tables(output, summary, results)
        shutil.rmtree(output / STAGING_NAME)
    return summary


def _results(job: Job, items: list[Item], workers: int, progress: Progress) -> list[ClipResult]:
    output = job.output
    todo = [index for index in range(len(items)) if not staged(output, index).exists()]
    progress(len(items) - len(todo), len(items))
    for done, _ in enumerate(_run(job, todo, workers), len(items) - len(todo) + 1):
        progress(done, len(items))
    return [ClipResult.read(staged(output, index)) for index in range(len(items))]


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
        wave = caught(lambda index=index: material.true(index, audio.sample_rate))  # type: ignore[misc]
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
        others = [_named(line) for line in differences(read_plan(path), json.loads(plan))]
        detail = f", begun with other settings: {'; '.join(others)}" if others else ""
        raise StorageError(
            f"{output} holds another report{detail}", "replace it with --force or choose another folder with -o"
        )
    for name in (STAGING_NAME, SOUNDS_NAME):
        shutil.rmtree(output / name, ignore_errors=True)
    (output / SUMMARY_NAME).unlink(missing_ok=True)
    write_text(path, plan)


def _named(difference: str) -> str:
    """Leave out values that nobody can read: of clips, of the mean mel and of digests."""
    name = difference.split(" ", 1)[0]
    return {"items": "other clips", "mean": "other training clips", "model": "another model"}.get(name, difference)


def _run(job: Job, todo: list[int], workers: int) -> Iterator[int]:
    """Work on clips, in this process if one is enough."""
    device = find_device(job.settings.device)
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
        except BrokenProcessPool as error:
            raise LipSoundError(
                "a worker process died, perhaps for want of memory", "run it again with fewer --workers; it goes on"
            ) from error
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


_bench: Bench | None = None


def _start_worker(job: Job) -> None:
    global _bench
    settle()
    torch.set_num_threads(1)
    _bench = Bench(job)


def _work(index: int) -> int:
    assert _bench is not None
    _bench.work(index)
    return index
