"""A prepared folder in an object store, and its working folder here -> shards there, each stored once it is assembled.

    prepared.json, failures.jsonl, index.jsonl, train-00000.tar ...     as in any prepared folder; the index comes last
    .staging/clips.json                                                 the clips
    .staging/train-00000.jsonl, .failures                               the index and the failures of a stored shard

This machine holds a shard only until it is stored. What is in the store decides what is left to do, so that another
machine can go on, and several can do shares. The parts of the index stay, so that a shard that gets lost is found out.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from lipsound2.data.repair import CLIPS_NAME, FAILURES_NAME, PLAN_NAME, part
from lipsound2.data.shards import INDEX_NAME
from lipsound2.runtime import remote
from lipsound2.runtime.resumable import STAGING_NAME
from lipsound2.runtime.terminal import warn

_PLAN = (f"{STAGING_NAME}/{CLIPS_NAME}", PLAN_NAME)


class StoredFolder:
    """The folder in the object store, and its working folder.

    Args:
        url: The folder in the object store.

    Attributes:
        folder: The working folder on this machine.
        done: The shards that are stored.
    """

    def __init__(self, url: Path) -> None:
        self.url = url
        self.folder = remote.mirror_folder(url)
        self.done: set[str] = set()
        self.planned = False

    def look(self, shards: Iterable[str]) -> None:
        """See what is stored, and make the working folder fit it."""
        there = remote.sizes(self.url)
        self.done = {shard for shard in shards if _stored(shard, there)}
        for name in (*_PLAN, FAILURES_NAME, INDEX_NAME):
            (self.folder / name).unlink(missing_ok=True)
        self.planned = PLAN_NAME in there
        if not self.planned:
            shutil.rmtree(self.folder / STAGING_NAME, ignore_errors=True)
            return
        if INDEX_NAME in there and (lost := [shard for shard in shards if shard not in self.done]):
            warn(f"{remote.url_of(self.url)}: {len(lost)} shards are gone and prepared again, such as {lost[0]}")
            remote.remove([self.url / INDEX_NAME])
            del there[INDEX_NAME]
        small = (*_PLAN, FAILURES_NAME, INDEX_NAME) if INDEX_NAME in there else _PLAN
        remote.fetch_all(self.url, there.keys() & set(small), self.folder)

    def begin(self, shards: Iterable[str]) -> None:
        """Store the plan, and the shards that an earlier run assembled and did not come to store."""
        for name in _PLAN:
            if not self.planned:
                remote.store(self.folder / name, self.url / name)
        for shard in shards:
            listing = part(self.folder, shard)
            if shard in self.done or not listing.exists():
                continue
            if listing.stat().st_size and not (self.folder / f"{shard}.tar").exists():
                listing.unlink()
            else:
                self.keep(shard)

    def keep(self, shard: str) -> None:
        """Store an assembled shard and remove it here."""
        listing = part(self.folder, shard)
        tar = self.folder / f"{shard}.tar"
        if tar.exists():
            remote.store(tar, self.url / tar.name)
        for path in (listing.with_suffix(".failures"), listing):
            remote.store(path, self.url / STAGING_NAME / path.name)
        self.done.add(shard)
        tar.unlink(missing_ok=True)

    def gather(self, shards: Iterable[str]) -> None:
        """Fetch the parts of the index that this machine did not make."""
        paths = [part(self.folder, shard) for shard in shards]
        names = [path.with_suffix(suffix).name for path in paths for suffix in (".failures", ".jsonl")]
        missing = [f"{STAGING_NAME}/{name}" for name in names if not (self.folder / STAGING_NAME / name).exists()]
        remote.fetch_all(self.url, missing, self.folder)

    def finish(self) -> None:
        """Store the failures, then the index."""
        for name in (FAILURES_NAME, INDEX_NAME):
            remote.store(self.folder / name, self.url / name)


def _stored(shard: str, there: dict[str, int]) -> bool:
    """Return whether a shard is stored; one of whose clips none could be used has no file."""
    listing = there.get(f"{STAGING_NAME}/{shard}.jsonl")
    return listing is not None and (listing == 0 or f"{shard}.tar" in there)
