"""How long a corpus of a million clips takes before any is prepared, and its index before any is trained on.

    python benchmarks/listing.py                        # 1,092,009 clips, as VoxCeleb2's development set has
    python benchmarks/listing.py --tree /tmp/listing    # also reads them from real folders of as many empty files

Prints seconds and the most memory of each part, each in a process of its own: the reader's listing, the plan of
`prepare` (in a new folder and in one that was begun), and reading the index and choosing a split.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from lipsound2.corpora import Clip, read_voxceleb2
from lipsound2.corpora.clip import split_by_hash
from lipsound2.data import prepare as preparing
from lipsound2.data.dataset import choose_entries
from lipsound2.data.prepare import PrepareConfig
from lipsound2.data.shards import INDEX_NAME
from lipsound2.runtime.names import sample_key

CLIPS = 1_092_009
SPEAKERS = 5_994
VIDEOS = 24
"""Of each speaker."""


class EnoughError(Exception):
    """The clips would be prepared now."""


class NoWork:
    """An executor that stops where work would begin."""

    def run(self, *_: object) -> Iterator[None]:
        """Stop."""
        raise EnoughError


def made_up(count: int) -> Iterator[Clip]:
    """Yield clips as the reader of VoxCeleb2 does."""
    videos, sounds = Path("/data/VoxCeleb2/dev/mp4"), Path("/data/VoxCeleb2/dev/aac")
    for name in names(count):
        speaker = sys.intern(name[:7])
        split = split_by_hash(speaker, 0.01, 0.0)
        yield Clip(name, videos / f"{name}.mp4", speaker, split, audio=sounds / f"{name}.m4a")


def names(count: int) -> Iterator[str]:
    """Yield ids such as id00012/21Uxsk56VDQ/00001."""
    for number in range(count):
        speaker, rest = number % SPEAKERS, number // SPEAKERS
        yield f"id{speaker:05d}/{speaker:05x}{rest % VIDEOS:06x}/{rest // VIDEOS + 1:05d}"


def plan(folder: Path, count: int) -> None:
    """Plan a preparation up to its first clip."""
    preparing.Processes = lambda _: NoWork()  # type: ignore[assignment,misc]
    with suppress(EnoughError):
        preparing.prepare(made_up(count), folder / "prepared", PrepareConfig())


def index(folder: Path, count: int) -> None:
    """Read the index and choose a split, as training does."""
    if not choose_entries(folder, "train"):
        raise SystemExit(f"no entries of {count}")


def listing(folder: Path, count: int) -> None:
    """List a corpus."""
    found = sum(1 for _ in read_voxceleb2(folder))
    if found != count:
        raise SystemExit(f"{found} clips, {count} were expected")


def write_index(folder: Path, count: int) -> None:
    """Write an index as `prepare` does."""
    offset = 0
    with (folder / INDEX_NAME).open("w", encoding="utf-8") as file:
        for number, name in enumerate(names(count)):
            members = {"flac": [offset, 101_234], "json": [offset + 102_400, 205], "mp4": [offset + 103_424, 98_765]}
            meta = {"first_frame": 0, "fps": 25, "frames": 200, "id": name, "sample_rate": 16_000}
            meta |= {"speaker": name[:7], "split": split_by_hash(name[:7], 0.01, 0.0), "transcript": None}
            shard = f"train-{number // 100:05d}.tar"
            row = {"key": sample_key(name), "members": members, "meta": meta, "shard": shard}
            file.write(json.dumps(row, sort_keys=True) + "\n")
            offset = (offset + 203_000) * ((number + 1) % 100 > 0)


def write_tree(folder: Path, count: int) -> None:
    """Make empty files in the layout of VoxCeleb2."""
    for part, suffix in (("mp4", "mp4"), ("aac", "m4a")):
        for video, clips in groupby(sorted(names(count)), lambda name: name.rpartition("/")[0]):
            place = folder / "dev" / part / video
            place.mkdir(parents=True)
            for name in clips:
                os.mknod(f"{place}/{name.rpartition('/')[2]}.{suffix}")


PARTS = {"listing": listing, "plan": plan, "plan again": plan, "index": index}


def measure(part: str, folder: Path, count: int) -> None:
    """Print seconds and memory of a part, in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), "--clips", str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(f"{part:12} {done.stdout.strip()}", flush=True)


def main() -> None:
    """Measure all parts, or do one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--tree", type=Path, help="a folder that is made, filled with empty files and removed")
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.part:
        before, cpu = time.perf_counter(), time.process_time()
        PARTS[given.part](given.folder, given.clips)
        seconds, used = time.perf_counter() - before, time.process_time() - cpu
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{seconds:6.1f} s ({used:.1f} s of CPU), at most {most:.2f} GB")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure("plan", folder, given.clips)
        measure("plan again", folder, given.clips)
        write_index(folder, given.clips)
        measure("index", folder, given.clips)
    if given.tree:
        given.tree.mkdir(parents=True)
        try:
            write_tree(given.tree, given.clips)
            measure("listing", given.tree, given.clips)
        finally:
            shutil.rmtree(given.tree)


if __name__ == "__main__":
    main()
