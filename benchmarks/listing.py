"""Measure what is done once a corpus: plan the shards of many made-up clips, and read the index of their samples.

python benchmarks/listing.py                      # as many as VoxCeleb2 has
python benchmarks/listing.py --clips 20000
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lipsound2.corpora.clip import Clip
from lipsound2.data.prepare import Preparation, PrepareConfig, plan_shards
from lipsound2.data.shards import INDEX_NAME, read_index, to_lines
from lipsound2.faces import MtcnnDetector

CLIPS = 1_092_009


def main() -> None:
    """Print the seconds and the memory of each step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=CLIPS)
    count = parser.parse_args().clips
    with tempfile.TemporaryDirectory() as name:
        plan(Path(name), count)
        path = Path(name) / INDEX_NAME
        with path.open("w") as file:
            file.writelines(map(line, range(count)))
        print(f"index of {count} clips: {path.stat().st_size / 1e6:.0f} MB")
        clock("read the index", lambda: read_index(path.parent))


def plan(folder: Path, count: int) -> None:
    """Measure what is done before the first clip."""
    clips = [clip(number) for number in range(count)]
    config = PrepareConfig()
    shards = clock("plan the shards", lambda: plan_shards(clips, config))
    job = Preparation(folder, shards, config, MtcnnDetector)
    clock("write the plan", job.begin)
    items = clock("list what is to be done", job.items)
    clock("see that nothing is done", lambda: sum(map(job.staged, items)))


def clip(number: int) -> Clip:
    """Make up a clip."""
    name = f"id{number % 5994:05d}/{number:011x}/{number % 99:05d}"
    return Clip(name, Path("/data/vox/mp4") / f"{name}.mp4", name[:7], "train")


def line(number: int) -> str:
    """Make up a line of the index."""
    made = clip(number)
    meta = {"fps": 25, "frames": 200, "first_frame": 0, "sample_rate": 16_000, "transcript": None}
    meta |= {name: value for name, value in asdict(made).items() if name in ("id", "speaker", "split")}
    members = {"flac": (1536, 140_000), "json": (142_336, 200), "mp4": (143_360, 110_000)}
    key = f"{made.id}-0123456789ab"
    return to_lines([{"key": key, "shard": f"train-{number // 100:05d}.tar", "members": members, "meta": meta}])


def clock(title: str, work: Callable[[], Any]) -> Any:
    """Do something, and print how long it took and the most memory that was used so far."""
    begun = time.monotonic()
    made = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{title}: {time.monotonic() - begun:.1f} s, at most {peak:.2f} GB so far", flush=True)
    return made


if __name__ == "__main__":
    main()
