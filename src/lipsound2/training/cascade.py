"""Prepared clips and a pack -> the speech that the pack makes of their silent faces, to train a recogniser on.

    generated/
      generated.json      what was made of what; a folder begun otherwise is refused
      train-00000.tar     sound and transcripts, as `lipsound2 prepare` keeps them, without pictures
      failures.jsonl      each clip that could not be spoken, and why, if there are any
      index.jsonl         written last, and says that all is done

Each clip is first a file of its own in `.staging`, so that a run that was stopped goes on where it was. Of several
processes, such as torchrun starts, one speaks and the others wait for it.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from lipsound2.data.repair import FAILURES_NAME
from lipsound2.data.sample import Sample, encode_wave
from lipsound2.data.shards import INDEX_NAME, Entry, read_crops, read_index, to_lines, whole, write_shard
from lipsound2.errors import DataError, LipSoundError, guard
from lipsound2.inference.pipeline import Pipeline, load
from lipsound2.packs import find_pack
from lipsound2.runtime.atomic import write_bytes, write_text
from lipsound2.runtime.claims import claim
from lipsound2.runtime.names import file_name
from lipsound2.runtime.plans import differences, read_plan
from lipsound2.runtime.terminal import warn
from lipsound2.runtime.weights import WEIGHTS_NAME
from lipsound2.training.speech import speech_entries

PLAN_NAME = "generated.json"
STAGING_NAME = ".staging"
_TITLES = {"clips_sha256": "other clips", "model_sha256": "another model"}
SPLITS = ("train", "val")
"""What is spoken: test clips are never trained on."""


def generate_speech(
    prepared: Path,
    pack: Path | str,
    output: Path,
    speakers: Sequence[str] = (),
    clips: int = 0,
    vocoder: str | None = None,
    device: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Run a pack freely over prepared clips, or go on where an earlier call was stopped.

    Args:
        prepared: What `lipsound2 prepare` wrote.
        pack: A pack by name or folder, or a run's folder.
        output: Folder for the speech.
        speakers: Whose clips; empty takes all.
        clips: Training clips, spread evenly; 0 takes all.
        vocoder: By default the pack's own choice.
        device: A torch device; by default the first GPU, else the CPU.
        progress: Told how many of how many clips are done.

    Raises:
        DataError: `output` was begun with other clips or another pack.
    """
    entries = [
        replace(entry, meta={**entry.meta, "split": split})
        for split in SPLITS
        for entry in speech_entries(prepared, split, speakers, clips)
    ]
    with claim(output, "generating", wait=True):
        _check_plan(output, entries, pack, vocoder)
        if _done(output):
            return
        pipeline = load(pack, vocoder, device)
        for done, entry in enumerate(entries):
            progress(done, len(entries))
            if not _staged(output, entry).exists() and not _failed(output, entry).exists():
                _speak(output, pipeline, prepared, entry)
        progress(len(entries), len(entries))
        _finish(output, entries, pipeline.model.config.audio.sample_rate)


def _done(output: Path) -> bool:
    """Tell whether all is spoken and whole; the index of a damaged folder is taken away."""
    if not (output / INDEX_NAME).exists():
        return False
    try:
        entries = read_index(output)
        shards = {entry.shard for entry in entries}
        if all(whole(output, [entry for entry in entries if entry.shard == shard]) for shard in shards):
            return True
    except DataError as error:
        warn(error.message)
    warn(f"{output} is damaged and made anew")
    (output / INDEX_NAME).unlink()
    return False


def _speak(output: Path, pipeline: Pipeline, prepared: Path, entry: Entry) -> None:
    """Stage the speech of a clip, or why there is none."""
    try:
        with guard(str(entry.meta["id"])):
            spoken = speak_entry(pipeline, prepared, entry)
    except LipSoundError as error:
        record: dict[str, object] = {"clip": entry.meta["id"], "reason": error.message}
        write_text(_failed(output, entry), to_lines([record]))
    else:
        write_bytes(_staged(output, entry), spoken)


def speak_entry(pipeline: Pipeline, prepared: Path, entry: Entry) -> bytes:
    """Speak one prepared clip from its pictures alone, as FLAC."""
    spoken = pipeline.speak_crops(read_crops(prepared, entry, pipeline.model.config.video.channels))
    return encode_wave(spoken.wave, pipeline.model.config.audio.sample_rate)


def _check_plan(output: Path, entries: list[Entry], pack: Path | str, vocoder: str | None) -> None:
    found = find_pack(pack)
    listing = to_lines([entry.meta for entry in entries])
    plan = {
        "clips": len(entries),
        "clips_sha256": sha256(listing.encode()).hexdigest(),
        "model_sha256": sha256((found.model_folder / WEIGHTS_NAME).read_bytes()).hexdigest(),
        "vocoder": vocoder or found.info.vocoder,
    }
    path = output / PLAN_NAME
    if not path.exists():
        write_text(path, json.dumps(plan, indent=2, sort_keys=True) + "\n")
        return
    begun = read_plan(path)
    if begun != plan:
        others = [_TITLES.get(line.split(" ", 1)[0], line) for line in differences(begun, plan)]
        raise DataError(
            f"{output} was begun with other clips or another pack: {'; '.join(others) or 'its plan is damaged'}",
            "choose another folder or delete this one",
        )


def _staged(output: Path, entry: Entry) -> Path:
    return output / STAGING_NAME / f"{file_name(str(entry.meta['id']))}.flac"


def _failed(output: Path, entry: Entry) -> Path:
    return _staged(output, entry).with_suffix(".failure")


def _finish(output: Path, entries: list[Entry], sample_rate: int) -> None:
    """Put the staged clips into one shard a split, then write the index."""
    failed = [path for entry in entries if (path := _failed(output, entry)).exists()]
    if len(failed) == len(entries):
        reason = json.loads(failed[0].read_text(encoding="utf-8"))["reason"]
        shutil.rmtree(output / STAGING_NAME)
        raise DataError(f"none of {len(entries)} clips could be spoken: {reason}", "prepare them again")
    if failed:
        write_text(output / FAILURES_NAME, "".join(path.read_text(encoding="utf-8") for path in failed))
        warn(f"{len(failed)} of {len(entries)} clips were not spoken; the reasons are in {output / FAILURES_NAME}")
    entries = [entry for entry in entries if not _failed(output, entry).exists()]
    index: list[Entry] = []
    for split in sorted({str(entry.meta["split"]) for entry in entries}):
        chosen = [entry for entry in entries if entry.meta["split"] == split]
        index += write_shard(output / f"{split}-00000.tar", (_sample(output, entry, sample_rate) for entry in chosen))
    write_text(output / INDEX_NAME, to_lines(index))
    shutil.rmtree(output / STAGING_NAME)


def _sample(output: Path, entry: Entry, sample_rate: int) -> Sample:
    meta = {**entry.meta, "sample_rate": sample_rate}
    text = json.dumps(meta, ensure_ascii=False, sort_keys=True)
    return Sample(entry.key, {"json": text.encode(), "flac": _staged(output, entry).read_bytes()}, meta)
