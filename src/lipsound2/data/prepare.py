"""A corpus -> shards of samples with an index, on all cores, resumable after any interruption.

Clips are assigned to shards before work begins. Each finished clip is first a file of its own in
`.staging`, so a kill only loses the clips in progress; a shard whose clips are all done is
assembled and its staging removed. A run that was killed and resumed therefore gives the same
bytes as an uninterrupted one.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from lipsound2 import faces
from lipsound2.corpora.clip import SPLITS, Clip
from lipsound2.data.account import Account, NothingKeptError
from lipsound2.data.recording import make_samples
from lipsound2.data.repair import FAILURES_NAME, Shards, check_plan, part, restage_if_damaged
from lipsound2.data.sample import SampleConfig
from lipsound2.data.shards import INDEX_NAME, Entry, read_samples, read_shard, to_lines, write_shard
from lipsound2.data.stored import StoredFolder
from lipsound2.errors import DataError, LipSoundError, StorageError
from lipsound2.runtime.atomic import atomic_path, write_text
from lipsound2.runtime.claims import Share
from lipsound2.runtime.executors import Executor, Processes, Worker
from lipsound2.runtime.names import printable
from lipsound2.runtime.remote import Mirror, is_remote
from lipsound2.runtime.resumable import STAGING_NAME, FolderJob, resumable_map

DetectorFactory = Callable[[], faces.Detector]
Progress = Callable[[int, int, float], None]
"""Told how many of how many clips are done, and how many seconds of samples are staged."""


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
    """Result of a preparation, or of a share of it."""

    samples: int
    failures: int
    clips: int
    account: Account


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
    progress: Progress = lambda done, total, seconds: None,
    share: Share = Share(),  # noqa: B008  (a constant)
    executor: Executor | None = None,
    mirror: Mirror | None = None,
) -> Summary:
    """Prepare clips into `output`, or go on where an earlier call was interrupted.

    A finished folder is verified: shards that are missing or truncated are prepared again.

    Args:
        clips: What to prepare; ids must be unique.
        output: Folder for the shards, the index and `failures.jsonl`.
        config: How to prepare.
        detector: Creates the face detector, once in each worker.
        progress: Called with the number of clips done, the total, and the seconds of samples that are staged.
        mirror: Of a corpus in an object store, where the clips' files are fetched from.
        share: Which share of the shards. The last share to end writes the index, as does a later call for all.
        executor: Where the clips are prepared; by default in processes of this machine.

    Raises:
        DataError: `output` was begun with other clips or other settings.
        StorageError: `output` cannot be written, or another process does the same work in it.
    """
    shards = plan_shards(list(clips), config)
    stored = StoredFolder(output) if is_remote(output) else None
    job = Preparation(stored.folder if stored else output, shards, config, detector, mirror, stored)
    # Always in processes of their own, since a damaged video may end the one that decodes it.
    executor = executor or Processes(config.workers or os.cpu_count() or 1)
    report = resumable_map(job, executor, lambda done, total: progress(done, total, job.seconds), share=share)
    own = list(shards)[share.number - 1 :: share.of] if report.left else list(shards)
    if report.left and stored:
        stored.gather(own)
    return _summary_of(job.output, {shard: shards[shard] for shard in own}, finished=not report.left)


def _summary_of(output: Path, shards: Shards, finished: bool) -> Summary:
    """Count what became of the clips of some shards, or of a whole folder."""
    parts = [part(output, shard) for shard in shards]
    indexes = [output / INDEX_NAME] if finished else parts
    failures = [output / FAILURES_NAME] if finished else [path.with_suffix(".failures") for path in parts]
    account = read_account(indexes, failures)
    return Summary(account.samples, sum(1 for _ in _rows(failures)), sum(map(len, shards.values())), account)


class Preparation(FolderJob[Task]):
    """Samples of clips, staged one by one and assembled shard by shard."""

    title = "prepare"

    def __init__(
        self,
        output: Path,
        shards: Shards,
        config: PrepareConfig,
        detector: DetectorFactory,
        mirror: Mirror | None = None,
        stored: StoredFolder | None = None,
    ) -> None:
        self.output = output
        self.mirror = mirror
        self.stored = stored
        self.shards = shards
        self.config = config
        self.detector = detector
        self.tasks = {name: _tasks(output, name, members) for name, members in shards.items()}
        self.missing = Counter({name: len(members) for name, members in shards.items()})
        self.seconds = 0.0

    def begin(self) -> None:
        """Check that clips and settings are those of the folder, and keep undamaged shards."""
        if self.stored:
            self.stored.look(self.shards)
        check_plan(self.output, self.shards, asdict(self.config.sample), self.config.shard_size)
        if self.stored:
            self.stored.begin(self.shards)
        else:
            restage_if_damaged(self.output, self.shards)
        staging = self.output / STAGING_NAME
        there = {path.name for path in staging.iterdir()} if staging.exists() else set()
        self.assembled = {name for name in self.shards if part(self.output, name).name in there}
        self.assembled |= self.stored.done if self.stored else set()
        self.begun = there & self.shards.keys()

    def complete(self) -> bool:
        """Return whether there is an index."""
        return (self.output / INDEX_NAME).exists()

    def items(self) -> Sequence[Task]:
        """List the clips, shard by shard."""
        return [task for tasks in self.tasks.values() for task in tasks]

    def groups(self) -> Sequence[Sequence[Task]]:
        """List the clips of each shard, which one share prepares and assembles."""
        return list(self.tasks.values())

    def staged(self, item: Task) -> bool:
        """Return whether a clip is part of a shard, staged, or known to fail."""
        return item.shard in self.assembled or (item.shard in self.begun and item.done())

    def worker(self) -> Worker[Task]:
        """Return the worker, which loads the face detector."""
        return partial(_Preparer, self.detector, self.config.sample, self.mirror)

    def fail(self, item: Task, error: LipSoundError) -> None:
        """Stage the reason of a failure."""
        known = {"clip": item.clip.id, "video": str(item.clip.video), "reason": error.message}
        told = self.mirror.told if self.mirror else str
        record: dict[str, object] = {name: printable(told(value)) for name, value in known.items()}
        if isinstance(error, NothingKeptError):
            record["account"] = error.account.facts()
        write_text(item.failure, to_lines([record]))

    def landed(self, item: Task) -> None:
        """Assemble a shard once all of its clips are done."""
        if item.shard not in self.assembled:
            _expect(item)
            if item.sample.exists():
                self.seconds += sum(map(_seconds, read_shard(item.sample)))
        self.missing[item.shard] -= 1
        if not self.missing[item.shard]:
            self._assemble(item.shard)

    def _assemble(self, shard: str) -> None:
        if self.stored and shard in self.stored.done:
            return
        _assemble(self.output, shard, self.tasks[shard])
        if self.stored:
            self.stored.keep(shard)

    def finish(self) -> None:
        """Join the parts; the index is written last and marks the folder as finished."""
        if self.stored:
            self.stored.gather(self.shards)
        parts = [part(self.output, shard) for shard in self.shards]
        for name, suffix in ((FAILURES_NAME, ".failures"), (INDEX_NAME, ".jsonl")):
            with atomic_path(self.output / name) as temporary, temporary.open("wb") as file:
                file.writelines(listing.with_suffix(suffix).read_bytes() for listing in parts)
        if self.stored:
            self.stored.finish()


def read_account(indexes: Iterable[Path], failures: Iterable[Path]) -> Account:
    """Sum up listings of a prepared folder; a sample without an account of its own was kept whole."""
    total = Account()
    for row in _rows(indexes):
        meta = row["meta"]
        if "account" in meta:
            total.add(meta["account"])
        elif "clip" not in meta:
            seconds = meta.get("frames", 0) / meta["fps"]
            total.add({"found": seconds, "kept": seconds, "lost": {}, "samples": 1})
    for row in _rows(failures):
        total.add(row.get("account", {}))
    return total


def _rows(listings: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in listings:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


class _Preparer:
    """State of a worker."""

    def __init__(self, detector: DetectorFactory, config: SampleConfig, mirror: Mirror | None) -> None:
        self.detector = detector()
        self.config = config
        self.mirror = mirror

    def __call__(self, task: Task) -> None:
        """Stage a clip's samples."""
        with _at_hand(task.clip, self.mirror) as clip:
            write_shard(task.sample, make_samples(clip, self.detector, self.config))


@contextmanager
def _at_hand(clip: Clip, mirror: Mirror | None) -> Iterator[Clip]:
    """Yield a clip whose files are on this machine."""
    with ExitStack() as stack:
        local: dict[str, Any] = {}
        for each in fields(clip) if mirror else ():
            value = getattr(clip, each.name)
            if mirror and isinstance(value, Path):
                local[each.name] = stack.enter_context(mirror.fetched(value))
        yield replace(clip, **local)


def plan_shards(clips: list[Clip], config: PrepareConfig) -> Shards:
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


def _expect(task: Task) -> None:
    """Check that what a worker staged is there.

    Raises:
        StorageError: It is not, since the worker's machine writes to another folder.
    """
    if task.done():
        return
    # Some network file systems remember what was not there until its folder is listed again.
    if not any(path in (task.sample, task.failure) for path in task.sample.parent.glob("*")):
        raise StorageError(
            f"{task.sample} was written by a worker and is not there", "give an -o that all of the machines share"
        )


def _seconds(entry: Entry) -> float:
    """Return the duration of a sample, as far as it is known."""
    frames, fps = (entry.meta.get(name, 0) for name in ("frames", "fps"))
    return frames / fps if isinstance(frames, int) and isinstance(fps, int) and fps else 0.0


def _assemble(output: Path, shard: str, tasks: list[Task]) -> None:
    """Assemble the staged clips of a shard; killed at any line, a second call gives the same result."""
    listing = part(output, shard)
    if not listing.exists():
        staged = [task.sample for task in tasks if task.sample.exists()]
        entries = write_shard(output / f"{shard}.tar", chain.from_iterable(map(read_samples, staged))) if staged else []
        failures = [task.failure.read_text(encoding="utf-8") for task in tasks if task.failure.exists()]
        write_text(listing.with_suffix(".failures"), "".join(failures))
        write_text(listing, to_lines(entries))
    shutil.rmtree(output / STAGING_NAME / shard, ignore_errors=True)
