"""A pack and clips -> a report folder: `lipsound2 evaluate`.

    report/
      report.html     the whole report in one page, with audio to play
      summary.json    settings, versions, and mean, interval and count of each metric, row by row
      summary.md      the same as tables
      clips.csv       a line per clip and row; cells of missing values are empty
      missing.csv     the reason of each missing value
      sounds/         the evaluated audio, as FLAC, a folder per row

Clips are processed in parallel, each on one thread, so that results do not depend on the number of workers.
An interrupted run can be resumed.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lipsound2.audio import log_mel
from lipsound2.corpora.protocols import find_protocol
from lipsound2.errors import LipSoundError, StorageError
from lipsound2.evaluation import words
from lipsound2.evaluation.bench import Job, MelFrame, Numbered, Row, Settings, caught, lost, open_bench, staged
from lipsound2.evaluation.html import write_html
from lipsound2.evaluation.material import Source
from lipsound2.evaluation.metrics import choose_meters
from lipsound2.evaluation.selection import KEEP, Selection, select, training_clips
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
from lipsound2.evaluation.tables import SOUNDS_NAME, trained_note, write_tables
from lipsound2.faces import Detector, MtcnnDetector
from lipsound2.inference.pipeline import Pipeline, load
from lipsound2.packs import Pack, find_pack
from lipsound2.packs.history import History
from lipsound2.runtime.devices import find_device
from lipsound2.runtime.executors import Worker, choose
from lipsound2.runtime.plans import changes, write_plan
from lipsound2.runtime.resumable import STAGING_NAME, FolderJob, Progress, resumable_map
from lipsound2.runtime.terminal import say, warn
from lipsound2.vocoder import GriffinLim
from lipsound2.vocoder.synthesis import WaveGlowVocoder

FLOOR_CLIPS = 200
"""Number of training clips, spread evenly, for the mean mel."""


def evaluate(
    settings: Settings,
    output: Path,
    workers: int = 0,
    force: bool = False,
    detector: Callable[[], Detector] = MtcnnDetector,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Evaluate speech generated from silent clips against their own audio.

    Args:
        settings: Settings of the evaluation.
        output: Folder of the report.
        workers: Processes; 0 takes one per core, or one on a GPU.
        force: Whether to replace another report.
        detector: Creates the face detector, for folders of videos.
        progress: Called with the number of clips done and the total.

    Raises:
        StorageError: `output` holds another report, or another process works in it.
        DataError: There are no clips.
        ConfigError: A metric or protocol is unknown.
    """
    found = find_pack(settings.pack)
    choose_meters(settings.metrics)  # fail early for unknown metrics
    selection = select(settings.source, found.history)
    _tell(selection, found)
    job, note = _plan(settings, found, selection, output, detector)
    report = _Report(job, found, selection, note, force)
    device = find_device(settings.device)
    with _one_thread():
        resumable_map(report, choose(workers or (1 if device != "cpu" else 0)), progress)
    return report.summary


class _Report(FolderJob[Numbered]):
    """Results of clips, staged one by one and assembled as a report."""

    title = "evaluate"

    def __init__(self, job: Job, found: Pack, selection: Selection, note: str, force: bool) -> None:
        self.output = job.output
        self.job = job
        self.found = found
        self.clips = selection.items
        self.selection = selection
        self.note = note
        self.force = force

    def begin(self) -> None:
        """Check that the report is the same, or that another may be replaced."""
        _begin(self.output, _fingerprint(self.job, self.found), self.force)

    def items(self) -> Sequence[Numbered]:
        """List the clips."""
        return [Numbered(index, item.id) for index, item in enumerate(self.clips)]

    def staged(self, item: Numbered) -> bool:
        """Return whether a clip was evaluated."""
        return staged(self.output, item.number).exists()

    def worker(self) -> Worker[Numbered]:
        """Return the worker, which loads pack, recognisers and metrics."""
        return partial(open_bench, self.job)

    def fail(self, item: Numbered, error: LipSoundError) -> None:
        """Stage a result without values."""
        meters = choose_meters(self.job.settings.metrics)
        lost(self.clips[item.number], self.job, meters, error.message).write(staged(self.output, item.number))

    def finish(self) -> None:
        """Write the report."""
        results = [ClipResult.read(staged(self.output, index)) for index in range(len(self.clips))]
        titles = {row.name: row.title for row in self.job.rows}
        metrics = all_metrics(choose_meters(self.job.settings.metrics), self.job.judges)
        self.summary = summarize(results, titles, metrics, _facts(self.job, self.found, self.selection, self.note))
        write_html(self.output, self.summary, results)
        write_tables(self.output, self.summary, results)


def _tell(selection: Selection, found: Pack) -> None:
    """Say which clips are evaluated, and warn of those that the pack was trained on."""
    name = found.info.name
    if not found.history:
        say(f"{name} does not say which clips it was trained on: see to it that none of these are among them")
    if selection.moved:
        say(f"{selection.moved} of {len(selection.items)} clips are of another split in the data: {name}'s own counts")
    if selection.left_out:
        every = selection.left_out + len(selection.items)
        warn(f"{selection.left_out} of {every} clips are left out: {name} was trained on them; {KEEP}")
    if selection.trained:
        warn(trained_note(selection.trained, len(selection.items), name))


def _plan(
    settings: Settings, found: Pack, selection: Selection, output: Path, detector: Callable[[], Detector]
) -> tuple[Job, str]:
    pipeline = load(settings.pack, settings.vocoder, "cpu")
    vocoder = pipeline.vocoder.name
    vocoders = {vocoder: settings.vocoder or found.info.vocoder, GriffinLim.name: GriffinLim.name}
    if found.waveglow:
        vocoders.setdefault(WaveGlowVocoder.name, WaveGlowVocoder.name)
    mean, note = _mean_mel(settings.source, found.history, pipeline)
    rows = [Row(PACK, f"{found.info.name}, {vocoder}")]
    rows += [Row(f"{CEILING}-{name}", f"reference mel, {name}") for name in vocoders]
    rows += [Row(FLOOR, f"mean mel, {vocoder}"), Row(TRUE, "reference audio")]
    protocol = settings.source.protocol
    grammar = find_protocol(protocol).grammar if protocol else None
    judges = words.find_judges(settings.recognizers, found.recognizer, grammar)
    judges = words.judges_for(settings.metrics, judges)
    return Job(settings, tuple(selection.items), vocoders, tuple(rows), judges, mean, output, detector), note


def _mean_mel(source: Source, history: History, pipeline: Pipeline) -> tuple[MelFrame, str]:
    """Return the mean log-mel frame of the train split, else that of the pack's own training data."""
    material = training_clips(source, history, FLOOR_CLIPS)
    audio = pipeline.model.config.audio
    mels = []
    for index in range(len(material.items)):
        wave = caught(lambda index=index: material.true(index, audio.sample_rate))  # type: ignore[misc]
        if not isinstance(wave, str):
            mels.append(log_mel(torch.from_numpy(wave)[None], audio)[0])
    if not mels:
        return pipeline.model.mel_mean[:, 0].numpy(), "the mean mel is the pack's own, since there is no train split"
    return torch.cat(mels, dim=1).mean(dim=1).numpy(), f"the mean mel is that of {len(mels)} training clips"


def _facts(job: Job, found: Pack, selection: Selection, note: str) -> dict[str, object]:
    source = job.settings.source
    return {
        "pack": {"name": found.info.name, "version": found.info.version, "model_sha256": found.model_digest},
        "vocoder": next(iter(job.vocoders)),
        "recognizers": list(job.judges),
        "data": source.data.resolve().name,
        "split": source.split,
        "speakers": list(source.speakers),
        "protocol": source.protocol,
        "floor": note,
        "history": bool(found.history),
        "trained_on": selection.trained,
        "left_out": selection.left_out,
        "moved": selection.moved,
    }


def _fingerprint(job: Job, found: Pack) -> dict[str, Any]:
    """Return all that the report depends on, so that a run is only resumed with the same."""
    plan = asdict(job.settings) | {
        "source": str(job.settings.source),
        "model": found.model_digest,
        "judges": job.judges,
    }
    return plan | {"rows": [asdict(row) for row in job.rows], "mean": job.mean.tobytes().hex(), "items": job.items}


def _begin(output: Path, plan: dict[str, Any], force: bool) -> None:
    path = output / STAGING_NAME / "plan.json"
    others = changes(path, plan)
    if others == []:
        return
    if (others or (output / SUMMARY_NAME).exists()) and not force:
        named = [_named(line) for line in others or []]
        detail = f", begun with other settings: {'; '.join(named)}" if named else ""
        raise StorageError(
            f"{output} holds another report{detail}", "replace it with --force or choose another folder with -o"
        )
    for name in (STAGING_NAME, SOUNDS_NAME):
        shutil.rmtree(output / name, ignore_errors=True)
    (output / SUMMARY_NAME).unlink(missing_ok=True)
    write_plan(path, plan)


def _named(difference: str) -> str:
    """Return a difference without values that are not readable: of clips, the mean mel and digests."""
    name = difference.split(" ", 1)[0]
    return {"items": "other clips", "mean": "other training clips", "model": "another model"}.get(name, difference)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, since sums over several differ in rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
