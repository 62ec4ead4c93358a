"""Prepared clips and a pack -> generated speech for training a recogniser, or generated mels for training a vocoder.

    generated/
      generated.json      the clips and the model; a folder begun with others is refused
      train-00000.tar     NAME.flac (speech) or NAME.npy (a mel), and NAME.json as `lipsound2 prepare` keeps it
      failures.jsonl      failed clips with the reasons, if there are any
      index.jsonl         written last, and marks the folder as finished

Each clip is first a file of its own in `.staging`, so that an interrupted run can be resumed. Of several
processes, as started by torchrun, one generates while the others wait, and all read its output.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

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
from lipsound2.errors import DataError, LipSoundError
from lipsound2.inference.pipeline import Pipeline, load
from lipsound2.packs import find_pack
from lipsound2.packs.pack import Pack
from lipsound2.runtime.atomic import write_bytes, write_text
from lipsound2.runtime.executors import InProcess, Work, Worker
from lipsound2.runtime.names import file_name
from lipsound2.runtime.plans import changes, write_plan
from lipsound2.runtime.resumable import STAGING_NAME, FolderJob, Progress, resumable_map
from lipsound2.runtime.terminal import warn
from lipsound2.training.speech import speech_entries

PLAN_NAME = "generated.json"
SHARD_SIZE = 1000
"""Clips per shard."""
_TITLES = {
    "clips_sha256": "other clips",
    "model_sha256": "another model",
    "settings_sha256": "other settings of the model",
}
SPLITS = ("train", "val")
"""Splits that are generated: test clips are never trained on."""

Maker = Callable[[Entry], bytes]
"""Generates the contents of a clip's file."""


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
    """Generate the speech of prepared clips with transcripts, free-running, or resume an interrupted call.

    Args:
        prepared: What `lipsound2 prepare` wrote.
        pack: A pack by name or folder, or a run's folder.
        output: Folder for the speech.
        speakers: Speakers whose clips are used; empty takes all.
        clips: Number of training clips, spread evenly; 0 takes all.
        vocoder: By default the pack's own choice.
        device: A torch device; by default the first GPU, else the CPU.
        progress: Called with the number of clips done and the total.

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
    """Generate the speech of one prepared clip from its silent video, as FLAC."""
    spoken = pipeline.speak_crops(read_crops(prepared, entry, pipeline.model.config.video.channels))
    return encode_wave(spoken.wave, pipeline.model.config.audio.sample_rate)


def generate(
    output: Path,
    entries: list[Entry],
    plan: dict[str, object],
    load_maker: Callable[[], Maker],
    progress: Progress,
) -> None:
    """Generate a file for each clip, or resume an interrupted call.

    Args:
        output: Folder for the generated shards.
        entries: The clips, with their metadata.
        plan: As `describe` returns it.
        load_maker: Loads the generator; not called if the folder is complete.
        progress: Called with the number of clips done and the total.

    Raises:
        DataError: `output` was begun with another plan, or all clips failed.
    """
    suffix = "npy" if plan["kind"] == "mel" else "flac"
    staging = output / STAGING_NAME
    bases = [staging / file_name(str(entry.meta["id"])) for entry in entries]
    pieces = [
        Piece(entry, base.with_name(f"{base.name}.{suffix}"), base.with_name(f"{base.name}.failure"))
        for entry, base in zip(entries, bases, strict=True)
    ]
    resumable_map(_Generation(output, pieces, plan, load_maker), InProcess(), progress, wait=True)


class Piece(NamedTuple):
    """A prepared clip and the staged files of its result or failure."""

    entry: Entry
    result: Path
    failure: Path

    @property
    def name(self) -> str:
        """The clip's id."""
        return str(self.entry.meta["id"])


@dataclass
class _Generation(FolderJob[Piece]):
    """Generation from clips, staged one by one and assembled by split."""

    output: Path
    pieces: list[Piece]
    plan: dict[str, object]
    load_maker: Callable[[], Maker]
    title = "generating"

    def begin(self) -> None:
        """Check that clips, kind and model are those of the folder."""
        _check_plan(self.output, self.plan)

    def complete(self) -> bool:
        """Return whether the folder is complete and undamaged."""
        return _done(self.output)

    def items(self) -> Sequence[Piece]:
        """List the clips."""
        return self.pieces

    def staged(self, item: Piece) -> bool:
        """Return whether a clip is done or known to fail."""
        return item.result.exists() or item.failure.exists()

    def worker(self) -> Worker[Piece]:
        """Return the worker, which loads the model."""
        return partial(_stager, self.load_maker)

    def fail(self, item: Piece, error: LipSoundError) -> None:
        """Stage the reason of a failure."""
        record: dict[str, object] = {"clip": item.entry.meta["id"], "reason": error.message}
        write_text(item.failure, to_lines([record]))

    def finish(self) -> None:
        """Assemble the staged clips into shards, then write the index."""
        _finish(self.output, self.pieces)


def _stager(load_maker: Callable[[], Maker]) -> Work[Piece]:
    """Load the generator, and return a function that stages a clip."""
    make = load_maker()
    return lambda piece: write_bytes(piece.result, make(piece.entry))


def _done(output: Path) -> bool:
    """Return whether the folder is complete and undamaged; remove the index of a damaged one."""
    if not (output / INDEX_NAME).exists():
        return False
    try:
        entries = read_index(output)
        shards = {entry.shard for entry in entries}
        if all(whole(output, [entry for entry in entries if entry.shard == shard]) for shard in shards):
            return True
    except DataError as error:
        warn(error.message)
    warn(f"{output} is damaged and generated again")
    (output / INDEX_NAME).unlink()
    return False


def describe(kind: str, entries: list[Entry], pack: Pack) -> dict[str, object]:
    """Return the plan: the kind (`speech` or `mel`), the clips and the model."""
    return {
        "kind": kind,
        "clips": len(entries),
        "clips_sha256": sha256(to_lines([entry.meta for entry in entries]).encode()).hexdigest(),
        "model_sha256": pack.model_digest,
        "settings_sha256": sha256((pack.model_folder / CONFIG_NAME).read_bytes()).hexdigest(),
    }


def _check_plan(output: Path, plan: dict[str, object]) -> None:
    """Write the plan of a folder, or check that it was begun with the same.

    Raises:
        DataError: It was not; the message says what differs.
    """
    path = output / PLAN_NAME
    others = changes(path, plan, older={"kind": "speech"})  # older versions only generated speech
    if others is None:
        write_plan(path, plan)
    elif others:
        titles = [_TITLES.get(line.split(" ", 1)[0], line) for line in others]
        raise DataError(
            f"{output} was begun with other clips or another pack: {'; '.join(titles)}",
            "choose another folder or delete this one",
        )


def _finish(output: Path, pieces: Sequence[Piece]) -> None:
    failed = [piece.failure for piece in pieces if piece.failure.exists()]
    if len(failed) == len(pieces):
        reason = json.loads(failed[0].read_text(encoding="utf-8"))["reason"]
        shutil.rmtree(output / STAGING_NAME)
        raise DataError(f"nothing could be generated of {len(pieces)} clips: {reason}", "prepare them again")
    if failed:
        write_text(output / FAILURES_NAME, "".join(path.read_text(encoding="utf-8") for path in failed))
        where = output / FAILURES_NAME
        warn(f"nothing could be generated of {len(failed)} of {len(pieces)} clips; the reasons are in {where}")
    done = [piece for piece in pieces if not piece.failure.exists()]
    index: list[Entry] = []
    for split in sorted({str(piece.entry.meta["split"]) for piece in done}):
        chosen = [piece for piece in done if piece.entry.meta["split"] == split]
        for start in range(0, len(chosen), SHARD_SIZE):
            samples = map(_sample, chosen[start : start + SHARD_SIZE])
            index += write_shard(output / f"{split}-{start // SHARD_SIZE:05d}.tar", samples)
    write_text(output / INDEX_NAME, to_lines(index))


def _sample(piece: Piece) -> Sample:
    entry = piece.entry
    text = json.dumps(entry.meta, ensure_ascii=False, sort_keys=True)
    return Sample(entry.key, {"json": text.encode(), piece.result.suffix[1:]: piece.result.read_bytes()}, entry.meta)
