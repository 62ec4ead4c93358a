"""A description of a corpus -> a folder of clips with transcripts, times, splits and licences.

sim/
  LICENSE.md            every ingredient and its licence
  simulation.json       the settings; a run with others is refused
  splits.csv            clip, speaker, split, transcript
  sim01/bbaf2n.mp4      H.264 and AAC, 25 pictures a second, 16 kHz
  sim01/bbaf2n.txt      the transcript
  sim01/bbaf2n.json     words and phones with their times in seconds
"""

import csv
import hashlib
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from lipsound2 import __version__
from lipsound2.corpora.splits import SPLITS_NAME
from lipsound2.errors import DataError, LipSoundError, StorageError, guard
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.claims import LOCK_NAME, claim
from lipsound2.runtime.workers import interrupts_held_back, settle
from lipsound2.simulate import lexicon, packages
from lipsound2.simulate.film import write_film
from lipsound2.simulate.licences import licences
from lipsound2.simulate.sentences import held_out_by
from lipsound2.simulate.studio import FPS, Plan, Shot, SimulateConfig, Studio, speaker_name
from lipsound2.simulate.voice import MODEL_PARTS, SAMPLE_RATE, Timed

SETTINGS = "simulation.json"


Progress = Callable[[int, int], None]


class Failure(NamedTuple):
    """A clip that could not be made, and why."""

    clip: str
    reason: str


class Report(NamedTuple):
    """What became of a corpus: how many clips were made now and found as they were, and those that failed."""

    made: int
    kept: int
    failures: list[Failure]


def simulate(
    config: SimulateConfig,
    output: Path,
    workers: int = 0,
    like: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Make a corpus of talking heads, or what is missing of it.

    Args:
        config: What to make.
        output: The corpus folder; clips that are there already are kept.
        workers: How many processes work at once; 0 takes one a core, 1 none but this one.
        like: Another corpus, whose held-out sentences are held out here too.
        progress: Told how many of how many clips are done.

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
    with claim(output, "simulate"):
        _claim(config, held_out, output)
        return _make(studio, plans, held_out, output, workers, progress)


def _make(
    studio: Studio, plans: list[Plan], held_out: dict[str, str], output: Path, workers: int, progress: Progress
) -> Report:
    missing = sorted((p for p in plans if not _json_path(output, p).exists()), key=lambda p: (p.speaker, p.clip))
    kept = len(plans) - len(missing)
    progress(kept, len(plans))
    failures = []
    for done, failure in enumerate(_make_all(studio, held_out, missing, output, workers or os.cpu_count() or 1), 1):
        if failure is not None:
            failures.append(failure)
        progress(kept + done, len(plans))
    _write_splits(output)
    return Report(len(missing) - len(failures), kept, failures)


def make_clip(studio: Studio, plan: Plan, output: Path) -> Failure | None:
    """Make one clip; its JSON file is written last, as the sign that it is whole.

    Returns:
        Why it could not be made, or None.

    Raises:
        StorageError: Nothing can be written.
    """
    base = output / plan.name
    try:
        with guard(plan.name):
            _write(base, plan, studio.shoot(plan))
    except StorageError:
        raise
    except LipSoundError as error:
        return Failure(plan.name, error.message)
    return None


def _write(base: Path, plan: Plan, shot: Shot) -> None:
    write_film(base.with_suffix(".mp4"), shot.pictures, FPS, shot.utterance.wave, SAMPLE_RATE, shot.take.lens.crf)
    write_text(base.with_suffix(".txt"), plan.sentence.transcript + "\n")
    write_text(base.with_suffix(".json"), json.dumps(_description(plan, shot), ensure_ascii=False, indent=1) + "\n")


def _make_all(
    studio: Studio, held_out: dict[str, str], plans: Sequence[Plan], output: Path, workers: int
) -> Iterator[Failure | None]:
    """Make clips, in parallel if there are several, and yield what became of each as soon as it is known."""
    if workers == 1 or len(plans) < 2:
        for plan in plans:
            yield make_clip(studio, plan, output)
        return
    context = multiprocessing.get_context("spawn")
    arguments = (studio.config, held_out, output)
    with ProcessPoolExecutor(min(workers, len(plans)), context, _start_worker, arguments) as pool:
        try:
            with interrupts_held_back():
                futures = [pool.submit(_work, plan.clip) for plan in plans]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise LipSoundError(
                "a worker process died, perhaps for want of memory", "run it again with fewer --workers; it goes on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker(NamedTuple):
    """What a worker process keeps from clip to clip."""

    studio: Studio
    output: Path


_worker: _Worker | None = None


def _start_worker(config: SimulateConfig, held_out: dict[str, str], output: Path) -> None:
    global _worker
    settle()
    _worker = _Worker(Studio(config, held_out), output)


def _work(clip: int) -> Failure | None:
    assert _worker is not None
    return make_clip(_worker.studio, _worker.studio.plan(clip), _worker.output)


def _json_path(output: Path, plan: Plan) -> Path:
    return (output / plan.name).with_suffix(".json")


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
    """Write down what the folder holds, or check that it holds the same."""
    settings = {key: value for key, value in asdict(config).items() if key not in ("clips", "text")}
    settings["text"] = hashlib.sha256(config.text.read_bytes()).hexdigest() if config.text else None
    settings["like"] = hashlib.sha256(repr(sorted(held_out.items())).encode()).hexdigest() if held_out else None
    path = output / SETTINGS
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"cannot read {path}: {error!r}", "choose another folder with -o") from error
        others = sorted(key for key in settings if found.get(key) != settings[key])
        if others:
            raise DataError(
                f"{output} holds a corpus with another {', '.join(others)}", "choose another folder with -o"
            )
    elif any(not path.name.startswith(LOCK_NAME) for path in output.iterdir()):
        raise DataError(f"{output} is not empty and holds no simulated corpus", "choose another folder with -o")
    write_text(path, json.dumps({"made_by": f"lipsound2 {__version__}", "settings": settings}, indent=2) + "\n")
    write_text(output / "LICENSE.md", licences(config.text))


def _write_splits(output: Path) -> None:
    """List all clips that are there."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(output.glob("sim*/*.json"))]
    text = io.StringIO()
    table = csv.DictWriter(text, ["clip", "speaker", "split", "transcript"], extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(output / SPLITS_NAME, text.getvalue())
