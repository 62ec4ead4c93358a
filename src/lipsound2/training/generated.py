"""Prepared clips and a pack -> generated speech to train a recogniser on, or generated mels to train a vocoder on.

    generated/
      generated.json      what was made of what; a folder begun otherwise is refused
      train-00000.tar     NAME.flac (speech) or NAME.npy (a mel), and NAME.json as `lipsound2 prepare` keeps it
      failures.jsonl      each clip of which nothing could be generated, and why, if there are any
      index.jsonl         written last, and says that all is done

Each clip is first a file of its own in `.staging`, so that a run that was stopped goes on where it was. Of several
processes, such as torchrun starts, one generates, the others wait for it, and all read what it wrote.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from lipsound2.config import CONFIG_NAME, ModelConfig, read_config
from lipsound2.data.repair import FAILURES_NAME
from lipsound2.data.sample import Sample, encode_wave
from lipsound2.data.shards import (
    INDEX_NAME,
    Entry,
    read_crops,
    read_index,
    to_lines,
    whole,
    write_shard,
)
from lipsound2.errors import DataError, LipSoundError, guard
from lipsound2.inference.pipeline import Pipeline, load
from lipsound2.packs import find_pack
from lipsound2.packs.pack import Pack
from lipsound2.runtime.atomic import write_bytes, write_text
from lipsound2.runtime.claims import claim
from lipsound2.runtime.names import file_name
from lipsound2.runtime.plans import differences, read_plan
from lipsound2.runtime.terminal import warn
from lipsound2.runtime.weights import WEIGHTS_NAME
from lipsound2.training.speech import speech_entries

PLAN_NAME = "generated.json"
STAGING_NAME = ".staging"
SHARD_SIZE = 1000
"""Clips a shard."""
_TITLES = {
    "clips_sha256": "other clips",
    "model_sha256": "another model",
    "settings_sha256": "other settings of the model",
}
SPLITS = ("train", "val")
"""Of what is generated: test clips are never trained on."""

Progress = Callable[[int, int], None]
Maker = Callable[[Entry], bytes]
"""Generates what is kept of a clip."""


def generate_speech(
    prepared: Path,
    pack: Path | str,
    output: Path,
    speakers: Sequence[str] = (),
    clips: int = 0,
    vocoder: str | None = None,
    device: str | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Run a pack freely over prepared clips with transcripts, or go on where an earlier call was stopped.

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
    found = find_pack(pack)
    entries = [
        replace(entry, meta={**entry.meta, "split": split})
        for split in SPLITS
        for entry in speech_entries(prepared, split, speakers, clips)
    ]
    plan = describe("speech", entries, found) | {"vocoder": vocoder or found.info.vocoder}
    rate = read_config(found.model_folder / CONFIG_NAME, ModelConfig).audio.sample_rate
    entries = [replace(entry, meta={**entry.meta, "sample_rate": rate}) for entry in entries]

    def load_maker() -> Maker:
        pipeline = load(pack, vocoder, device)
        return lambda entry: speak_entry(pipeline, prepared, entry)

    generate(output, entries, plan, load_maker, progress)


def speak_entry(pipeline: Pipeline, prepared: Path, entry: Entry) -> bytes:
    """Speak one prepared clip from its pictures alone, as FLAC."""
    spoken = pipeline.speak_crops(read_crops(prepared, entry, pipeline.model.config.video.channels))
    return encode_wave(spoken.wave, pipeline.model.config.audio.sample_rate)


def generate(
    output: Path,
    entries: list[Entry],
    plan: dict[str, object],
    load_maker: Callable[[], Maker],
    progress: Progress,
) -> None:
    """Generate something of each clip, or go on where an earlier call was stopped.

    Args:
        output: Folder for what is generated.
        entries: The clips, with what is to be known of them in `meta`.
        plan: What is generated of what, of `describe`.
        load_maker: Loads what generates; is not called if all is there.
        progress: Told how many of how many clips are done.

    Raises:
        DataError: `output` was begun with another plan, or nothing could be generated of any clip.
    """
    suffix = "npy" if plan["kind"] == "mel" else "flac"
    with claim(output, "generating", wait=True):
        _check_plan(output, plan)
        if _done(output):
            return
        make = load_maker()
        for done, entry in enumerate(entries):
            progress(done, len(entries))
            if not _staged(output, entry, suffix).exists() and not _failed(output, entry).exists():
                _make(output, entry, make, suffix)
        progress(len(entries), len(entries))
        _finish(output, entries, suffix)


def _done(output: Path) -> bool:
    """Return whether all is generated and whole; the index of a damaged folder is taken away."""
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


def _make(output: Path, entry: Entry, make: Maker, suffix: str) -> None:
    """Stage what is generated of a clip, or why there is nothing."""
    try:
        with guard(str(entry.meta["id"])):
            made = make(entry)
    except LipSoundError as error:
        record: dict[str, object] = {"clip": entry.meta["id"], "reason": error.message}
        write_text(_failed(output, entry), to_lines([record]))
    else:
        write_bytes(_staged(output, entry, suffix), made)


def describe(kind: str, entries: list[Entry], pack: Pack) -> dict[str, object]:
    """Return the plan of what is generated: `speech` or `mel`, of which clips, by which model."""
    return {
        "kind": kind,
        "clips": len(entries),
        "clips_sha256": sha256(to_lines([entry.meta for entry in entries]).encode()).hexdigest(),
        "model_sha256": sha256((pack.model_folder / WEIGHTS_NAME).read_bytes()).hexdigest(),
        "settings_sha256": sha256((pack.model_folder / CONFIG_NAME).read_bytes()).hexdigest(),
    }


def _check_plan(output: Path, plan: dict[str, object]) -> None:
    """Write down what a folder is begun with, or see that it was begun with the same.

    Raises:
        DataError: It was not; the message says what differs.
    """
    path = output / PLAN_NAME
    if not path.exists():
        write_text(path, json.dumps(plan, indent=2, sort_keys=True) + "\n")
        return
    begun = {"kind": "speech"} | read_plan(path)  # folders of older versions do not say that they hold speech
    others = [_TITLES.get(line.split(" ", 1)[0], line) for line in differences(begun, plan)]
    if others or len(begun) == 1:
        raise DataError(
            f"{output} was begun with other clips or another pack: {'; '.join(others) or 'its plan is damaged'}",
            "choose another folder or delete this one",
        )


def _staged(output: Path, entry: Entry, suffix: str) -> Path:
    return output / STAGING_NAME / f"{file_name(str(entry.meta['id']))}.{suffix}"


def _failed(output: Path, entry: Entry) -> Path:
    return _staged(output, entry, "failure")


def _finish(output: Path, entries: list[Entry], suffix: str) -> None:
    """Put the staged clips into shards, then write the index."""
    failed = [path for entry in entries if (path := _failed(output, entry)).exists()]
    if len(failed) == len(entries):
        reason = json.loads(failed[0].read_text(encoding="utf-8"))["reason"]
        shutil.rmtree(output / STAGING_NAME)
        raise DataError(f"nothing could be generated of {len(entries)} clips: {reason}", "prepare them again")
    if failed:
        write_text(output / FAILURES_NAME, "".join(path.read_text(encoding="utf-8") for path in failed))
        where = output / FAILURES_NAME
        warn(f"nothing could be generated of {len(failed)} of {len(entries)} clips; the reasons are in {where}")
    entries = [entry for entry in entries if not _failed(output, entry).exists()]
    index: list[Entry] = []
    for split in sorted({str(entry.meta["split"]) for entry in entries}):
        chosen = [entry for entry in entries if entry.meta["split"] == split]
        for start in range(0, len(chosen), SHARD_SIZE):
            samples = (_sample(output, entry, suffix) for entry in chosen[start : start + SHARD_SIZE])
            index += write_shard(output / f"{split}-{start // SHARD_SIZE:05d}.tar", samples)
    write_text(output / INDEX_NAME, to_lines(index))
    shutil.rmtree(output / STAGING_NAME)


def _sample(output: Path, entry: Entry, suffix: str) -> Sample:
    text = json.dumps(entry.meta, ensure_ascii=False, sort_keys=True)
    return Sample(entry.key, {"json": text.encode(), suffix: _staged(output, entry, suffix).read_bytes()}, entry.meta)
