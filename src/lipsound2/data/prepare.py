"""A corpus -> shards of samples with an index, on all cores, resumable after any interruption.

Clips are assigned to shards before work begins. Each finished clip is first a file of its own in
`.staging`, so a kill only loses the clips in progress; a shard whose clips are all done is
assembled and its staging removed. A run that was killed and resumed therefore gives the same
bytes as an uninterrupted one.
"""

import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lipsound2 import faces
from lipsound2.corpora.clip import SPLITS, Clip
from lipsound2.data.repair import FAILURES_NAME, Shards, check_plan, part, read_failures, restage_if_damaged
from lipsound2.data.sample import Sample, SampleConfig, make_sample
from lipsound2.data.shards import INDEX_NAME, to_lines, write_shard
from lipsound2.errors import DataError, LipSoundError
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.runtime.executors import Processes, Worker
from lipsound2.runtime.names import printable
from lipsound2.runtime.resumable import STAGING_NAME, FolderJob, Progress, resumable_map

DetectorFactory = Callable[[], faces.Detector]


@dataclass(frozen=True)
class PrepareConfig:
    """Settings of the preparation of a corpus.

    Attributes:
        sample: How each clip becomes a sample.
        shard_size: Clips per shard.
        workers: Processes; 0 takes one per core.
    """

    sample: SampleConfig = field(default_factory=SampleConfig)
    shard_size: int = 100
    workers: int = 0


class Summary(NamedTuple):
    """Result of a preparation."""

    samples: int
    failures: int


class Task(NamedTuple):
    """A clip, the shard it belongs to, and where in which folder its sample is staged."""

    clip: Clip
    shard: str
    folder: Path
    number: int

    @property
    def name(self) -> str:
        """The video, as errors quote it."""
        return str(self.clip.video)

    @property
    def sample(self) -> Path:
        """The staged sample."""
        return self.folder / f"{self.number:06d}.tar"

    @property
    def failure(self) -> Path:
        """Why there is none."""
        return self.folder / f"{self.number:06d}.failure"

    def done(self) -> bool:
        """Return whether an earlier run finished the clip."""
        return self.sample.exists() or self.failure.exists()


def prepare(
    clips: Iterable[Clip],
    output: Path,
    config: PrepareConfig,
    detector: DetectorFactory = faces.MtcnnDetector,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Prepare clips into `output`, or go on where an earlier call was interrupted.

    A finished folder is verified: shards that are missing or truncated are prepared again.

    Args:
        clips: What to prepare; ids must be unique.
        output: Folder for the shards, the index and `failures.jsonl`.
        config: How to prepare.
        detector: Creates the face detector, once in each worker.
        progress: Called with the number of clips done and the total.

    Raises:
        DataError: `output` was begun with other clips or other settings.
        StorageError: `output` cannot be written, or another process works in it.
    """
    shards = _plan(list(clips), config)
    # Always in processes of their own, since a damaged video may end the one that decodes it.
    resumable_map(
        _Preparation(output, shards, config, detector), Processes(config.workers or os.cpu_count() or 1), progress
    )
    failures = len(read_failures(output))
    return Summary(sum(map(len, shards.values())) - failures, failures)


class _Preparation(FolderJob[Task]):
    """Samples of clips, staged one by one and assembled shard by shard."""

    title = "prepare"

    def __init__(self, output: Path, shards: Shards, config: PrepareConfig, detector: DetectorFactory) -> None:
        self.output = output
        self.shards = shards
        self.config = config
        self.detector = detector
        self.tasks = {name: _tasks(output, name, members) for name, members in shards.items()}
        self.missing = Counter({name: len(members) for name, members in shards.items()})

    def begin(self) -> None:
        """Check that clips and settings are those of the folder, and keep undamaged shards."""
        check_plan(self.output, self.shards, asdict(self.config.sample), self.config.shard_size)
        restage_if_damaged(self.output, self.shards)
        staging = self.output / STAGING_NAME
        there = {path.name for path in staging.iterdir()} if staging.exists() else set()
        self.assembled = {name for name in self.shards if part(self.output, name).name in there}
        self.begun = there & self.shards.keys()

    def complete(self) -> bool:
        """Return whether there is an index."""
        return (self.output / INDEX_NAME).exists()

    def items(self) -> Sequence[Task]:
        """List the clips, shard by shard."""
        return [task for tasks in self.tasks.values() for task in tasks]

    def staged(self, item: Task) -> bool:
        """Return whether a clip is part of a shard, staged, or known to fail."""
        return item.shard in self.assembled or (item.shard in self.begun and item.done())

    def worker(self) -> Worker[Task]:
        """Return the worker, which loads the face detector."""
        return partial(_Preparer, self.detector, self.config.sample)

    def fail(self, item: Task, error: LipSoundError) -> None:
        """Stage the reason of a failure."""
        known = {"clip": item.clip.id, "video": str(item.clip.video), "reason": error.message}
        record: dict[str, object] = {name: printable(value) for name, value in known.items()}
        write_text(item.failure, to_lines([record]))

    def landed(self, item: Task) -> None:
        """Assemble a shard once all of its clips are done."""
        self.missing[item.shard] -= 1
        if not self.missing[item.shard]:
            _assemble(self.output, item.shard, self.tasks[item.shard])

    def finish(self) -> None:
        """Join the parts; the index is written last and marks the folder as finished."""
        parts = [part(self.output, shard) for shard in self.shards]
        for name, suffix in ((FAILURES_NAME, ".failures"), (INDEX_NAME, ".jsonl")):
            with atomic_path(self.output / name) as temporary, temporary.open("wb") as file:
                file.writelines(listing.with_suffix(suffix).read_bytes() for listing in parts)


class _Preparer:
    """State of a worker."""

    def __init__(self, detector: DetectorFactory, config: SampleConfig) -> None:
        self.detector = detector()
        self.config = config

    def __call__(self, task: Task) -> None:
        """Stage a clip's sample."""
        write_shard(task.sample, [make_sample(task.clip, self.detector, self.config)])


def _plan(clips: list[Clip], config: PrepareConfig) -> Shards:
    """Assign clips to shards."""
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
    return [Task(clip, shard, folder, number) for number, clip in enumerate(clips)]


def _assemble(output: Path, shard: str, tasks: list[Task]) -> None:
    """Assemble the staged clips of a shard; killed at any line, a second call gives the same result."""
    listing = part(output, shard)
    if not listing.exists():
        staged = [task.sample for task in tasks if task.sample.exists()]
        entries = write_shard(output / f"{shard}.tar", map(_staged_sample, staged)) if staged else []
        failures = [task.failure.read_text(encoding="utf-8") for task in tasks if task.failure.exists()]
        write_text(listing.with_suffix(".failures"), "".join(failures))
        write_text(listing, to_lines(entries))
    shutil.rmtree(output / STAGING_NAME / shard, ignore_errors=True)


def _staged_sample(path: Path) -> Sample:
    with tarfile.open(path) as tar:
        contents = {info.name: reader.read() for info in tar if (reader := tar.extractfile(info))}
    key = next(iter(contents)).rsplit(".", 1)[0]
    files = {name.rsplit(".", 1)[1]: data for name, data in contents.items()}
    return Sample(key, files, json.loads(files["json"]))
