"""A description of a corpus -> a folder of clips with transcripts, times, splits and licences.

sim/
  LICENSE.md            components and their licences
  simulation.json       the settings; a run with others is refused
  splits.csv            clip, speaker, split, transcript
  sim01/bbaf2n.mp4      H.264 and AAC, 25 frames per second, 16 kHz
  sim01/bbaf2n.txt      the transcript
  sim01/bbaf2n.json     words and phones with their times in seconds
"""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lipsound2 import __version__
from lipsound2.corpora.splits import SPLITS_NAME
from lipsound2.errors import DataError, LipSoundError
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.claims import LOCK_NAME, Share
from lipsound2.runtime.executors import Worker, choose
from lipsound2.runtime.plans import changes
from lipsound2.runtime.resumable import FolderJob, Progress, Report, resumable_map
from lipsound2.simulate import lexicon, packages
from lipsound2.simulate.film import write_film
from lipsound2.simulate.licences import licences
from lipsound2.simulate.sentences import held_out_by
from lipsound2.simulate.studio import FPS, Plan, Shot, SimulateConfig, Studio, speaker_name
from lipsound2.simulate.voice import MODEL_PARTS, SAMPLE_RATE, Timed

SETTINGS = "simulation.json"


def simulate(
    config: SimulateConfig,
    output: Path,
    workers: int = 0,
    like: Path | None = None,
    progress: Progress = lambda done, total: None,
    share: Share = Share(),  # noqa: B008  (a constant)
) -> Report:
    """Simulate a corpus of talking heads, or the missing part of it.

    Args:
        config: Settings of the corpus.
        output: The corpus folder; clips that are there already are kept.
        workers: Processes; 0 takes one per core, 1 only this one.
        like: Another corpus, whose held-out sentences are held out here too.
        progress: Called with the number of clips done and the total.
        share: Which share of the clips.

    Raises:
        ConfigError: There are not enough sentences for so many clips.
        DataError: The folder holds another corpus, or a word of the text has no pronunciation.
        MissingExtraError: The voice or the head is not installed.
        StorageError: The folder cannot be written, or another process works in it.
    """
    for name in ("anny", "numba", "onnxruntime", *MODEL_PARTS):
        packages.folder(name)
    held_out = held_out_by(like) if like else {}
    studio = Studio(config, held_out)
    plans = [studio.plan(clip) for clip in range(config.clips)]
    lexicon.check(word for plan in plans for word in plan.sentence.words)
    job = _Corpus(config, held_out, output, sorted(plans, key=lambda plan: (plan.speaker, plan.clip)))
    return resumable_map(job, choose(workers if config.clips > 1 else 1), progress, share=share)


@dataclass
class _Corpus(FolderJob[Plan]):
    """Clips of a corpus, written in place, each with its JSON file last."""

    config: SimulateConfig
    held_out: dict[str, str]
    output: Path
    plans: list[Plan]
    title = "simulate"

    def begin(self) -> None:
        """Write the plan of the folder, or check that it is the same."""
        _claim(self.config, self.held_out, self.output)

    def items(self) -> Sequence[Plan]:
        """List the clips, speaker by speaker."""
        return self.plans

    def staged(self, item: Plan) -> bool:
        """Return whether a clip is complete."""
        return (self.output / item.name).with_suffix(".json").exists()

    def worker(self) -> Worker[Plan]:
        """Return the worker, which loads voice and heads."""
        return partial(_Maker, self.config, self.held_out, self.output)

    def fail(self, item: Plan, error: LipSoundError) -> None:
        """Record nothing: the next call tries again."""

    def finish(self) -> None:
        """Write the list of all clips in the folder."""
        _write_splits(self.output)


class _Maker:
    """State of a worker."""

    def __init__(self, config: SimulateConfig, held_out: dict[str, str], output: Path) -> None:
        self.studio = Studio(config, held_out)
        self.output = output

    def __call__(self, plan: Plan) -> None:
        make_clip(self.studio, plan, self.output)


def make_clip(studio: Studio, plan: Plan, output: Path) -> None:
    """Simulate one clip; its JSON file is written last and marks it as complete."""
    base, shot = output / plan.name, studio.shoot(plan)
    write_film(base.with_suffix(".mp4"), shot.pictures, FPS, shot.utterance.wave, SAMPLE_RATE, shot.take.lens.crf)
    write_text(base.with_suffix(".txt"), plan.sentence.transcript + "\n")
    write_text(base.with_suffix(".json"), json.dumps(_description(plan, shot), ensure_ascii=False, indent=1) + "\n")


def _description(plan: Plan, shot: Shot) -> dict[str, Any]:
    def times(items: Sequence[Timed], key: str) -> list[dict[str, Any]]:
        return [{key: item.label, "start": round(item.start, 3), "end": round(item.end, 3)} for item in items]

    return {
        "clip": plan.name,
        "speaker": speaker_name(plan.speaker),
        "split": plan.split,
        "transcript": plan.sentence.transcript,
        "fps": FPS,
        "frames": shot.frames,
        "sample_rate": SAMPLE_RATE,
        "voice": shot.take.manner.voice,
        "words": times(shot.utterance.words, "word"),
        "phones": times(shot.utterance.phones, "phone"),
    }


def _claim(config: SimulateConfig, held_out: dict[str, str], output: Path) -> None:
    settings = {key: value for key, value in asdict(config).items() if key not in ("clips", "text")}
    settings["text"] = hashlib.sha256(config.text.read_bytes()).hexdigest() if config.text else None
    settings["like"] = hashlib.sha256(repr(sorted(held_out.items())).encode()).hexdigest() if held_out else None
    path = output / SETTINGS
    others = changes(path, {"settings": settings})
    if others:
        lines = "; ".join(line.removeprefix("settings.") for line in others)
        raise DataError(f"{output} holds another corpus: {lines}", "choose another folder with -o")
    if others is None and any(not path.name.startswith(LOCK_NAME) for path in output.iterdir()):
        raise DataError(f"{output} is not empty and holds no simulated corpus", "choose another folder with -o")
    write_text(path, json.dumps({"made_by": f"lipsound2 {__version__}", "settings": settings}, indent=2) + "\n")
    write_text(output / "LICENSE.md", licences(config.text))


def _write_splits(output: Path) -> None:
    """Write the list of all clips in the folder."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(output.glob("sim*/*.json"))]
    text = io.StringIO()
    table = csv.DictWriter(text, ["clip", "speaker", "split", "transcript"], extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(output / SPLITS_NAME, text.getvalue())
