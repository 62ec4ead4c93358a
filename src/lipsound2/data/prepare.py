"""A corpus -> shards of samples with an index, by all cores, whatever kills it on the way.

Which clip goes into which shard is settled before work begins. Each finished clip is first a file
of its own in `.staging`, so a kill costs the clips under way and no more; a shard whose clips are
all done is put together and its staging removed. A run that was killed and taken up again
therefore ends with the same bytes as one that was not.
"""

import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from lipsound2 import faces
from lipsound2.corpora.clip import SPLITS, Clip
from lipsound2.data.repair import (
    FAILURES_NAME,
    STAGING_NAME,
    Shards,
    check_plan,
    part,
    read_failures,
    restage_if_damaged,
)
from lipsound2.data.sample import Sample, SampleConfig, make_sample
from lipsound2.data.shards import INDEX_NAME, to_lines, write_shard
from lipsound2.errors import DataError, LipSoundError, StorageError, guard
from lipsound2.runtime.atomic import sweep, write_text
from lipsound2.runtime.claims import claim
from lipsound2.runtime.names import printable
from lipsound2.runtime.workers import interrupts_held_back, settle

DetectorFactory = Callable[[], faces.Detector]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PrepareConfig:
    """Say how a corpus is prepared.

    Attributes:
        sample: How each clip becomes a sample.
        shard_size: Clips a shard.
        workers: Processes; 0 takes one a core.
    """

    sample: SampleConfig = field(default_factory=SampleConfig)
    shard_size: int = 100
    workers: int = 0


class Summary(NamedTuple):
    """What came of a preparation."""

    samples: int
    failures: int


class Task(NamedTuple):
    """A clip, the shard it belongs to and where its sample, or why there is none, is staged."""

    clip: Clip
    shard: str
    sample: Path
    failure: Path

    def done(self) -> bool:
        """Tell whether an earlier run finished the clip."""
        return self.sample.exists() or self.failure.exists()


def prepare(
    clips: Iterable[Clip],
    output: Path,
    config: PrepareConfig,
    detector: DetectorFactory = faces.MtcnnDetector,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Prepare clips into `output`, or go on where an earlier call was interrupted.

    A folder that is done is looked over: shards that are missing or cut off are made anew.

    Args:
        clips: What to prepare; ids must be unique.
        output: Folder for the shards, the index and `failures.jsonl`.
        config: How to prepare.
        detector: Makes the face detector, once in each worker.
        progress: Told how many of how many clips are done.

    Raises:
        DataError: `output` was begun with other clips or other settings.
        StorageError: `output` cannot be written, or another process works in it.
    """
    shards = _plan(list(clips), config)
    with claim(output, "prepare"):
        check_plan(output, shards, asdict(config.sample), config.shard_size)
        sweep(output)
        restage_if_damaged(output, shards)
        return _prepare(output, shards, config, detector, progress)


def _prepare(
    output: Path, shards: Shards, config: PrepareConfig, detector: DetectorFactory, progress: Progress
) -> Summary:
    total = sum(map(len, shards.values()))
    if not (output / INDEX_NAME).exists():
        tasks = {name: _tasks(output, name, members) for name, members in shards.items()}
        todo = [task for name in shards if not part(output, name).exists() for task in tasks[name] if not task.done()]
        missing = Counter(task.shard for task in todo)
        for name in shards.keys() - missing.keys():
            _assemble(output, name, tasks[name])
        progress(total - len(todo), total)
        for count, task in enumerate(_run(todo, config, detector), total - len(todo) + 1):
            missing[task.shard] -= 1
            if not missing[task.shard]:
                _assemble(output, task.shard, tasks[task.shard])
            progress(count, total)
        _finish(output, list(shards))
    shutil.rmtree(output / STAGING_NAME, ignore_errors=True)
    progress(total, total)
    failures = len(read_failures(output))
    return Summary(total - failures, failures)


def _plan(clips: list[Clip], config: PrepareConfig) -> Shards:
    """Settle which clips form which shard."""
    twice = [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} clip ids are not unique, such as {twice[0]!r}")
    shards = {}
    for split in SPLITS:
        chosen = iter([clip for clip in clips if clip.split == split])
        number = 0
        while members := list(islice(chosen, config.shard_size)):
            shards[f"{split}-{number:05d}"] = members
            number += 1
    return shards


def _tasks(output: Path, shard: str, clips: list[Clip]) -> list[Task]:
    folder = output / STAGING_NAME / shard
    return [
        Task(clip, shard, folder / f"{number:06d}.tar", folder / f"{number:06d}.failure")
        for number, clip in enumerate(clips)
    ]


def _assemble(output: Path, shard: str, tasks: list[Task]) -> None:
    """Put the staged clips of a shard together; killed at any line, a second call ends the same."""
    listing = part(output, shard)
    if not listing.exists():
        staged = [task.sample for task in tasks if task.sample.exists()]
        entries = write_shard(output / f"{shard}.tar", map(_staged_sample, staged)) if staged else []
        failures = [task.failure.read_text(encoding="utf-8") for task in tasks if task.failure.exists()]
        write_text(listing.with_suffix(".failures"), "".join(failures))
        write_text(listing, to_lines(entries))
    shutil.rmtree(output / STAGING_NAME / shard, ignore_errors=True)


def _finish(output: Path, shards: list[str]) -> None:
    """Join the parts; the index comes last and says that all is done."""
    parts = [part(output, shard) for shard in shards]
    for name, suffix in ((FAILURES_NAME, ".failures"), (INDEX_NAME, ".jsonl")):
        texts = (listing.with_suffix(suffix).read_text(encoding="utf-8") for listing in parts)
        write_text(output / name, "".join(texts))


def _staged_sample(path: Path) -> Sample:
    with tarfile.open(path) as tar:
        contents = {info.name: reader.read() for info in tar if (reader := tar.extractfile(info))}
    key = next(iter(contents)).rsplit(".", 1)[0]
    files = {name.rsplit(".", 1)[1]: data for name, data in contents.items()}
    return Sample(key, files, json.loads(files["json"]))


def _run(tasks: list[Task], config: PrepareConfig, detector: DetectorFactory) -> Iterator[Task]:
    """Work on tasks in parallel; those under way when a worker dies are tried once more, each alone."""
    workers = min(config.workers or os.cpu_count() or 1, max(len(tasks), 1))
    waiting = iter(tasks)
    while batch := list(islice(waiting, 64 * workers)):
        left = {task.sample: task for task in batch}
        try:
            for task in _run_pool(batch, workers, config, detector):
                del left[task.sample]
                yield task
        except BrokenProcessPool:
            for task in left.values():
                _run_alone(task, config, detector)
                yield task


def _run_alone(task: Task, config: PrepareConfig, detector: DetectorFactory) -> None:
    try:
        if not task.done():
            list(_run_pool([task], 1, config, detector))
    except BrokenProcessPool:
        _stage_failure(task, "the worker process died on it")


def _run_pool(tasks: list[Task], workers: int, config: PrepareConfig, detector: DetectorFactory) -> Iterator[Task]:
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (detector, config.sample)) as pool:
        with interrupts_held_back():
            running: set[Future[Task]] = {pool.submit(_work, task) for task in tasks}
        try:
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker(NamedTuple):
    """What a worker process keeps from clip to clip."""

    detector: faces.Detector | LipSoundError
    config: SampleConfig


_worker: _Worker | None = None


def _start_worker(detector: DetectorFactory, config: SampleConfig) -> None:
    global _worker
    settle()
    try:
        _worker = _Worker(detector(), config)
    except LipSoundError as error:  # told by the first clip, since a worker that does not start is taken for a dead one
        _worker = _Worker(error, config)


def _work(task: Task) -> Task:
    assert _worker is not None
    if isinstance(_worker.detector, LipSoundError):
        raise _worker.detector
    try:
        with guard(task.clip.video):
            sample = make_sample(task.clip, _worker.detector, _worker.config)
    except StorageError:
        raise
    except LipSoundError as error:
        _stage_failure(task, error.message)
    else:
        write_shard(task.sample, [sample])
    return task


def _stage_failure(task: Task, reason: str) -> None:
    known = {"clip": task.clip.id, "video": str(task.clip.video), "reason": reason}
    record: dict[str, object] = {name: printable(value) for name, value in known.items()}
    write_text(task.failure, to_lines([record]))
