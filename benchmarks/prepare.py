"""Measure how many frames a second one core prepares, by stage and all in, in this tree and in another.

    python benchmarks/prepare.py                                        # this tree, a made-up clip like those of GRID
    python benchmarks/prepare.py --clips grid/s1 --count 20             # your own clips
    python benchmarks/prepare.py --clips grid/s1 --against ../old/src   # before and after

Every run is a process of its own on one core and with one thread. Rates are frames a second of processor time, which
other work on the machine slows less than the clock on the wall; that of the wall is given too. Trees take turns, and
the best of the rounds counts. `all in` is `lipsound2 prepare` with one worker: what N clips take beyond what one
takes, so that starting up does not count. `decode` has the conversion to RGB in it, `find and follow` the cuts.
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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()
OWN = HERE.parents[1] / "src"
ALL_IN = "**all in**"
MADE_UP = """
import sys
from pathlib import Path
import numpy as np
from lipsound2 import media
from stages import EXAMPLE, make_video
target = Path(sys.argv[1])
make_video(target.with_suffix(".mpg"), 3.0)
media.write_video(target.with_suffix(".mpg"), np.resize(media.read_audio(EXAMPLE, 16_000), 48_000), 16_000, target)
"""


class Cost(NamedTuple):
    """Seconds of a processor and of the wall."""

    processor: float
    wall: float


Costs = dict[str, Cost]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure how many frames a second one core prepares.")
    parser.add_argument("--clips", type=Path, help="folder of videos; by default one is made up")
    parser.add_argument("--count", type=int, default=10, help="clips that are prepared")
    parser.add_argument("--against", type=Path, action="append", default=[], help="src of another tree; repeatable")
    parser.add_argument("--rounds", type=int, default=3, help="times that everything is measured")
    parser.add_argument("--stages", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stages:
        print(json.dumps(stages(sorted(options.stages.rglob("*.*")))))
        return
    trees = [*options.against, OWN]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        count = gather(options.clips, work, options.count)
        rounds: list[list[Costs]] = []
        for _ in range(options.rounds):
            rounds.append([measured(tree, work) for tree in trees])
            print(f"round {len(rounds)} of {options.rounds}", file=sys.stderr, flush=True)
    found = [best(each) for each in zip(*rounds, strict=True)]
    print(table(trees, found, count))


def gather(clips: Path | None, work: Path, count: int) -> int:
    """Copy clips below `all`, and one of them below `one`; return the frames that are in `all` alone."""
    chosen = list(islice((path for path in sorted(clips.rglob("*.m*")) if path.is_file()), count)) if clips else []
    if clips and not chosen:
        raise SystemExit(f"no videos below {clips}")
    if not clips:
        run(OWN, ["-c", MADE_UP, str(work / "made.mp4")])
        chosen = [work / "made.mp4"] * count
    for name, videos in (("one", chosen[:1]), ("all", chosen)):
        for number, video in enumerate(videos):
            target = work / name / "speaker" / f"{number:04d}{video.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(video, target)
    return count_frames(work / "all") - count_frames(work / "one")


def count_frames(folder: Path) -> int:
    """Return the frames of all videos of a folder."""
    code = (
        "import sys; from pathlib import Path; from lipsound2 import media\n"
        "print(sum(1 for p in Path(sys.argv[1]).rglob('*.*') for _ in media.stream_frames(p)))"
    )
    return int(run(OWN, ["-c", code, str(folder)]))


def measured(tree: Path, work: Path) -> Costs:
    """Measure everything once in a tree."""
    costs = json.loads(run(tree, [str(HERE), "--stages", str(work / "all")]))
    found = {name: Cost(*cost) for name, cost in costs.items()}
    whole, one = (all_in(tree, work, name) for name in ("all", "one"))
    return found | {ALL_IN: Cost(whole.processor - one.processor, whole.wall - one.wall)}


def all_in(tree: Path, work: Path, name: str) -> Cost:
    """Measure `lipsound2 prepare`."""
    output = work / "prepared"
    shutil.rmtree(output, ignore_errors=True)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run(tree, ["-m", "lipsound2", "prepare", "folder", str(work / name), "-o", str(output), "--workers", "1"])
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def run(tree: Path, arguments: list[str]) -> str:
    """Run Python on one core with a tree's package, and return what it prints."""
    places = os.pathsep.join([str(tree.resolve()), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    code = [sys.executable, "-W", "ignore", *arguments]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, check=False, preexec_fn=_one_core)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed in {tree}:\n{done.stderr[-2000:]}")
    return done.stdout


def _one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def stages(videos: list[Path]) -> Costs:
    """Measure the stages of some clips one by one, each on what the one before returned."""
    import cv2
    import numpy as np

    from lipsound2 import faces, media
    from lipsound2.data.sample import encode_crops, encode_wave

    cv2.setNumThreads(1)
    detector = faces.MtcnnDetector()
    costs: Costs = {}
    for number, video in enumerate(videos):
        if number == 1:  # the first one warmed up
            costs = {}
        with timed(costs, "decode"):
            frames = list(media.stream_frames(video))
        with timed(costs, "find and follow"):
            tracking = faces.find_tracks(frames, detector)
        with timed(costs, "crop"):
            crops = list(faces.crop_faces(frames, tracking.tracks[0]))
        with timed(costs, "encode"):
            encode_crops(np.stack(crops), 25, 12)
        with timed(costs, "sound"):
            wave = media.read_audio(video, 16_000)
            assert wave is not None
            encode_wave(wave, 16_000)
    return costs


@contextmanager
def timed(costs: Costs, stage: str) -> Iterator[None]:
    """Add to the costs of a stage."""
    processor, wall = time.process_time(), time.perf_counter()
    yield
    before = costs.get(stage, Cost(0.0, 0.0))
    spent = (time.process_time() - processor, time.perf_counter() - wall)
    costs[stage] = Cost(before.processor + spent[0], before.wall + spent[1])


def best(rounds: Iterable[Costs]) -> Costs:
    """Return the lowest costs of several rounds."""
    each = list(rounds)
    return {name: Cost(*(min(costs[name][place] for costs in each) for place in (0, 1))) for name in each[0]}


def table(trees: list[Path], found: list[Costs], frames: int) -> str:
    """Return the costs as a table."""
    names = [str(tree) for tree in trees[:-1]] + ["this tree"]
    head = ["stage", *(f"{name}: {kind}" for name in names for kind in ("frames/s", "of the wall"))]
    title = f"{frames} frames, one core; frames/s of processor time and of the wall"
    lines = [title, "", row(head), row(["---"] * len(head))]
    for stage in found[0]:
        rates = [f"{frames / max(seconds, 1e-9):,.0f}" for costs in found for seconds in costs[stage]]
        lines.append(row([stage, *rates]))
    return "\n".join(lines)


def row(cells: Iterable[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
