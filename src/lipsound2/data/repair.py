"""A prepared folder and its plan -> what differs; undamaged shards are kept, only the others are prepared again.

prepared.json               the plan that the folder was begun with
.staging/clips.json         the clips of an unfinished folder
.staging/SHARD.jsonl        the index of a finished shard
.staging/SHARD.failures     its failed clips
"""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

from lipsound2.corpora.clip import Clip
from lipsound2.data.shards import INDEX_NAME, Entry, clip_of, read_index, read_shard, to_lines, whole
from lipsound2.errors import DataError
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.plans import changes, read_plan, write_plan
from lipsound2.runtime.resumable import STAGING_NAME
from lipsound2.runtime.terminal import warn

FAILURES_NAME = "failures.jsonl"
PLAN_NAME = "prepared.json"
CLIPS_NAME = "clips.json"

Shards = dict[str, list[Clip]]
"""The clips of each shard."""


def check_plan(output: Path, shards: Shards, sample: dict[str, object], shard_size: int) -> None:
    """Write the plan of a folder, or check that it was begun with the same.

    Raises:
        DataError: It was not; the message says what differs.
    """
    listing = {name: [clip.id for clip in clips] for name, clips in shards.items()}
    plan = {
        "clips": sum(map(len, shards.values())),
        "clips_sha256": sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest(),
        "sample": sample,
        "shard_size": shard_size,
    }
    path = output / PLAN_NAME
    others = changes(path, plan)
    if others is None:
        write_plan(path, plan)
        write_text(output / STAGING_NAME / CLIPS_NAME, json.dumps(listing) + "\n")
        return
    settings = [line.removeprefix("sample.") for line in others if not line.startswith("clips")]
    if settings:
        raise DataError(
            f"{output} was begun with other settings: {'; '.join(settings)}", "give the same ones, or choose another -o"
        )
    if others:
        raise _other_clips(output, listing)


def part(output: Path, shard: str) -> Path:
    """Return the index of a finished shard."""
    return output / STAGING_NAME / f"{shard}.jsonl"


def read_failures(output: Path) -> list[dict[str, object]]:
    """List the failed clips; an empty list if there is no such file or it is damaged."""
    try:
        text = (output / FAILURES_NAME).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n") if line]
    except (OSError, ValueError):
        return []


def restage_if_damaged(output: Path, shards: Shards) -> None:
    """Verify a finished folder; if it is damaged, remove its index and keep the undamaged shards."""
    if not (output / INDEX_NAME).exists():
        return
    failures = {str(row.get("clip")): row for row in read_failures(output)}
    indexed = _indexed(output)
    if indexed is not None and all(_complete(output, clips, indexed, failures, n) for n, clips in shards.items()):
        return
    kept = [name for name, clips in shards.items() if _restage(output, name, clips, failures)]
    (output / INDEX_NAME).unlink()
    lost = len(shards) - len(kept)
    what = f"{lost} of {len(shards)} shards are" if lost else "the index is"
    warn(f"{output}: {what} damaged and prepared again")


def _indexed(output: Path) -> dict[str, list[Entry]] | None:
    try:
        entries = read_index(output)
    except DataError:
        return None
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.shard, []).append(entry)
    return found


def _complete(
    output: Path, clips: list[Clip], indexed: dict[str, list[Entry]], failures: dict[str, dict[str, object]], name: str
) -> bool:
    entries = indexed.get(f"{name}.tar", [])
    return _accounted(clips, entries, failures) and (not entries or whole(output, entries))


def _accounted(clips: list[Clip], entries: list[Entry], failures: dict[str, dict[str, object]]) -> bool:
    """Return whether each clip of a shard is in it, in as many samples as were made of it, or failed."""
    there, made = Counter(clip_of(entry.meta) for entry in entries), Counter[str]()
    for entry in entries:
        account = entry.meta.get("account")
        if "clip" not in entry.meta:
            made[clip_of(entry.meta)] += 1
        elif isinstance(account, dict):
            made[clip_of(entry.meta)] += account["samples"]
    failed = [clip.id for clip in clips if clip.id in failures]
    return there == made and Counter([*there, *failed]) == Counter(clip.id for clip in clips)


def _restage(output: Path, name: str, clips: list[Clip], failures: dict[str, dict[str, object]]) -> bool:
    path = output / f"{name}.tar"
    try:
        entries = read_shard(path) if path.exists() else []
    except DataError:
        return False
    if not _accounted(clips, entries, failures):
        return False
    lines = to_lines(failures[clip.id] for clip in clips if clip.id in failures)
    write_text(part(output, name).with_suffix(".failures"), lines)
    write_text(part(output, name), to_lines(entries))
    return True


def _other_clips(output: Path, listing: dict[str, list[str]]) -> DataError:
    """Return an error that lists added, removed and moved clips."""
    begun, now = _splits_begun(output), _splits(listing)
    added, gone = sorted(now.keys() - begun.keys()), sorted(begun.keys() - now.keys())
    moved = sorted(clip for clip in now.keys() & begun.keys() if begun[clip] not in ("", now[clip]))
    parts = [
        f"{len(clips)} {what}, such as {clips[0]}"
        for what, clips in (("are new", added), ("are gone", gone), ("are in another split", moved))
        if clips
    ]
    detail = ("; ".join(parts) or "they come in another order") if begun else f"{len(now)} clips now"
    hint = "choose another folder with -o or delete this one"
    if added and not gone and not moved:
        hint = "prepare the new clips alone into another -o, then put both together with: lipsound2 join"
    return DataError(f"{output} was begun with other clips: {detail}", hint)


def _splits_begun(output: Path) -> dict[str, str]:
    listing = read_plan(output / STAGING_NAME / CLIPS_NAME)
    if listing:
        return _splits(listing)
    begun = {str(row.get("clip")): "" for row in read_failures(output)}
    for shard, entries in (_indexed(output) or {}).items():
        begun |= {clip_of(entry.meta): shard.rpartition("-")[0] for entry in entries}
    return begun


def _splits(listing: dict[str, list[str]]) -> dict[str, str]:
    return {clip: shard.rpartition("-")[0] for shard, clips in listing.items() for clip in clips}
