"""`prepare` killed ten times on the way, in each of the ways to run it, ends with the bytes of a run left alone.

    python tests/prepare_kills.py [--kills 10] [--seed 0] [--clips FOLDER] [--ways local shards workers ray raylets]

    local      one process, killed
    shards     two processes that do a share each in one folder at once, one or both killed
    workers    a cluster of Ray, its actors killed
    ray        a cluster of Ray of its own, all of it killed
    raylets    a cluster of Ray of several nodes, nodes killed and others added

`raylets` kills while clips are left, so ten kills need more than ten clips. Takes minutes; `make test-kills` runs it,
`make test` does something smaller of the kind.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CLIPS = Path(__file__).parent / "data" / "sim"
SHARES = ("1/2", "2/2")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own 15 hardly gets on beside other work


def main() -> None:
    """Run once undisturbed, then in each way with kills, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    same = True
    with tempfile.TemporaryDirectory() as name:
        begun = time.monotonic()
        start(options.clips, Path(name) / "alone").wait()
        taken = time.monotonic() - begun
        alone = contents(Path(name) / "alone")
        print(f"alone: {taken:.0f} s, {len(alone)} files", flush=True)
        for way in options.ways:
            run = SimpleNamespace(
                clips=options.clips,
                output=Path(name) / way,
                kills=options.kills,
                seconds=taken,
                alone=alone,
                chance=random.Random(options.seed),
            )
            killed = WAYS[way](run)
            equal = contents(run.output) == alone
            same = same and equal
            print(f"{way}: killed {killed} times, {'the same' if equal else 'NOT the same'} bytes", flush=True)
            for path in sorted(contents(run.output).items() ^ alone.items()):
                print("differs:", *path)
    sys.exit(not same)


def start(clips: Path, output: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Start the command."""
    words = ["prepare", "folder", clips, "-o", output, "--shard-size", "2", "--workers", "2", *more]
    return subprocess.Popen([sys.executable, "-m", "lipsound2", *words], stdout=subprocess.DEVNULL)


def local(run: SimpleNamespace) -> int:
    """Kill the process."""
    for _ in range(run.kills):
        process = start(run.clips, run.output)
        time.sleep(run.chance.uniform(0.3, 0.8) * run.seconds)
        kill(process)
    assert start(run.clips, run.output).wait() == 0
    return run.kills


def shards(run: SimpleNamespace) -> int:
    """Kill one or both of two that work at once."""
    killed = 0
    while killed < run.kills:
        both = [start(run.clips, run.output, "--shard", share) for share in SHARES]
        time.sleep(run.chance.uniform(0.3, 0.8) * run.seconds)
        for process in run.chance.sample(both, run.chance.choice([1, 2])):
            kill(process)
            killed += 1
        for process in both:
            process.wait()
    assert [process.wait() for process in [start(run.clips, run.output, "--shard", share) for share in SHARES]] == [
        0,
        0,
    ]
    return killed


def ray(run: SimpleNamespace) -> int:
    """Kill a cluster with all of its processes."""
    for _ in range(run.kills):
        process = start(run.clips, run.output, "--ray", "local")
        time.sleep(run.chance.uniform(0.5, 1.2) * run.seconds)
        kill(process)
    assert start(run.clips, run.output, "--ray", "local").wait() == 0
    return run.kills


def workers(run: SimpleNamespace) -> int:
    """Kill an actor of each of several runs while it works."""
    killed = 0
    while killed < run.kills:
        shutil.rmtree(run.output, ignore_errors=True)
        process = start(run.clips, run.output, "--ray", "local")
        while process.poll() is None and not (actors := [each for each in below(process.pid) if is_actor(each)]):
            time.sleep(0.1)
        time.sleep(run.chance.uniform(0, 0.5) * run.seconds)
        end(run.chance.choice(actors))
        killed += 1
        assert process.wait() == 0
        assert contents(run.output) == run.alone
    return killed


def raylets(run: SimpleNamespace) -> int:
    """Kill nodes of a cluster, and add others."""
    from ray.cluster_utils import Cluster

    from lipsound2.corpora import read_folder
    from lipsound2.data.prepare import PrepareConfig, prepare
    from lipsound2.runtime.ray_cluster import Ray

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes: list[Any] = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    killed = 0

    def progress(done: int, total: int, seconds: float) -> None:
        nonlocal killed
        if 0 < done < total and killed < run.kills:
            node = nodes.pop(run.chance.randrange(2))
            cluster.remove_node(node, allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
            killed += 1

    try:
        config = PrepareConfig(shard_size=2)
        prepare(read_folder(run.clips), run.output, config, progress=progress, executor=Ray(cluster.address, 2))
    finally:
        cluster.shutdown()
    return killed


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it started, as when a machine is switched off."""
    family = [*below(process.pid), process.pid]
    for each in reversed(family):
        end(each)
    process.wait()


def end(process: int) -> None:
    """Kill a process that may have ended."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def below(process: int) -> list[int]:
    """List the processes that a process started, and those that they started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [process]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def is_actor(process: int) -> bool:
    """Return whether a process is an actor of Ray."""
    try:
        return b"ray::Actor" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def contents(folder: Path) -> dict[str, str]:
    """Return the checksum of every file below a folder."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


WAYS = {"local": local, "shards": shards, "workers": workers, "ray": ray, "raylets": raylets}

if __name__ == "__main__":
    main()
