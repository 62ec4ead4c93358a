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
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from lipsound2.config import CONFIG_NAME, ModelConfig, read_config
from lipsound2.data.repair import FAILURES_NAME
from lipsound2.data.sample import Sample, encode_wave
from lipsound2.data.shards import INDEX_NAME, Entry, read_crops, read_index, to_lines, whole, write_shard
from lipsound2.errors import DataError, LipSoundError
from lipsound2.inference.pipeline import Pipeline, load
from lipsound2.packs import find_pack
from lipsound2.runtime.atomic import write_bytes, write_text
from lipsound2.runtime.executors import InProcess, Worker
from lipsound2.runtime.names import file_name
from lipsound2.runtime.plans import changes, write_plan
from lipsound2.runtime.resumable import STAGING_NAME, FolderJob, resumable_map
from lipsound2.runtime.terminal import warn
from lipsound2.training.speech import speech_entries

PLAN_NAME = "generated.json"
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
    resumable_map(_Generation(output, prepared, entries, pack, vocoder, device), InProcess(), progress, wait=True)


class Piece(NamedTuple):
    """A prepared clip and where its speech, or why there is none, is staged."""

    entry: Entry
    sound: Path
    failure: Path

    @property
    def name(self) -> str:
        """The clip's id."""
        return str(self.entry.meta["id"])


@dataclass
class _Generation(FolderJob[Piece]):
    """The speech of clips, staged one by one and put together by split."""

    output: Path
    prepared: Path
    entries: list[Entry]
    pack: Path | str
    vocoder: str | None
    device: str | None
    title = "generating"

    def begin(self) -> None:
        """See that the same clips are spoken by the same pack."""
        _check_plan(self.output, self.entries, self.pack, self.vocoder)

    def complete(self) -> bool:
        """Return whether all is spoken and whole."""
        return _done(self.output)

    def items(self) -> Sequence[Piece]:
        """List the clips."""
        staging = self.output / STAGING_NAME
        bases = [staging / file_name(str(entry.meta["id"])) for entry in self.entries]
        return [
            Piece(entry, base.with_name(f"{base.name}.flac"), base.with_name(f"{base.name}.failure"))
            for entry, base in zip(self.entries, bases, strict=True)
        ]

    def staged(self, item: Piece) -> bool:
        """Return whether a clip is spoken or known to fail."""
        return item.sound.exists() or item.failure.exists()

    def worker(self) -> Worker[Piece]:
        """Return what loads the pack."""
        return partial(_Speaker, self.prepared, self.pack, self.vocoder, self.device)

    def fail(self, item: Piece, error: LipSoundError) -> None:
        """Stage the reason."""
        record: dict[str, object] = {"clip": item.entry.meta["id"], "reason": error.message}
        write_text(item.failure, to_lines([record]))

    def finish(self) -> None:
        """Put the staged clips into one shard a split, then write the index."""
        model = find_pack(self.pack).model_folder
        _finish(self.output, self.items(), read_config(model / CONFIG_NAME, ModelConfig).audio.sample_rate)


class _Speaker:
    """What a worker keeps from clip to clip."""

    def __init__(self, prepared: Path, pack: Path | str, vocoder: str | None, device: str | None) -> None:
        self.prepared = prepared
        self.pipeline = load(pack, vocoder, device)

    def __call__(self, piece: Piece) -> None:
        """Stage a clip's speech."""
        write_bytes(piece.sound, speak_entry(self.pipeline, self.prepared, piece.entry))


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
        "model_sha256": found.model_digest,
        "vocoder": vocoder or found.info.vocoder,
    }
    others = changes(output / PLAN_NAME, plan)
    if others is None:
        write_plan(output / PLAN_NAME, plan)
    elif others:
        titles = [_TITLES.get(line.split(" ", 1)[0], line) for line in others]
        raise DataError(
            f"{output} was begun with other clips or another pack: {'; '.join(titles)}",
            "choose another folder or delete this one",
        )


def _finish(output: Path, pieces: Sequence[Piece], sample_rate: int) -> None:
    failed = [piece.failure for piece in pieces if piece.failure.exists()]
    if len(failed) == len(pieces):
        reason = json.loads(failed[0].read_text(encoding="utf-8"))["reason"]
        shutil.rmtree(output / STAGING_NAME)
        raise DataError(f"none of {len(pieces)} clips could be spoken: {reason}", "prepare them again")
    if failed:
        write_text(output / FAILURES_NAME, "".join(path.read_text(encoding="utf-8") for path in failed))
        warn(f"{len(failed)} of {len(pieces)} clips were not spoken; the reasons are in {output / FAILURES_NAME}")
    index: list[Entry] = []
    for split in sorted({str(piece.entry.meta["split"]) for piece in pieces if not piece.failure.exists()}):
        chosen = [piece for piece in pieces if piece.entry.meta["split"] == split and not piece.failure.exists()]
        index += write_shard(output / f"{split}-00000.tar", (_sample(piece, sample_rate) for piece in chosen))
    write_text(output / INDEX_NAME, to_lines(index))


def _sample(piece: Piece, sample_rate: int) -> Sample:
    meta = {**piece.entry.meta, "sample_rate": sample_rate}
    text = json.dumps(meta, ensure_ascii=False, sort_keys=True)
    return Sample(piece.entry.key, {"json": text.encode(), "flac": piece.sound.read_bytes()}, meta)
