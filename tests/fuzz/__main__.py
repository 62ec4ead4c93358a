"""Cases -> a summary, with what is needed to run each failure again.

PYTHONPATH=tests python -m fuzz --cases 1000 --seed 1            # media and data, half and half
PYTHONPATH=tests python -m fuzz --group media --seed 1 --only 42  # one case again
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz.seeds import make_seeds
from fuzz.worker import GOOD, KINDS, Limits, Outcome, Plan, Worker, serve


def run(plan: Plan, cases: Iterable[tuple[str, int]], workers: int = 1) -> Iterator[Outcome]:
    """Run cases, in their order, in so many processes."""
    mine = threading.local()
    started: list[Worker] = []

    def one(case: tuple[str, int]) -> Outcome:
        if not hasattr(mine, "worker"):
            mine.worker = Worker(plan, serve)
            started.append(mine.worker)
        return mine.worker.run(*case)

    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(one, cases)
    finally:
        pool.shutdown(cancel_futures=True)
        for worker in started:
            worker.stop()


def describe(outcome: Outcome, plan: Plan) -> str:
    """Say what failed and how to see it again."""
    again = f"python -m fuzz --group {outcome.group} --seed {plan.seed} --only {outcome.index}"
    tail = "\n".join("    " + line for line in outcome.detail.splitlines()[-30:])
    where = f"{outcome.target} of {outcome.changed}" if outcome.target else ""
    return f"{outcome.kind.upper()} {where}: {again}\n{tail}"


def main() -> int:
    """Run as many cases as asked; returns 1 if any failed."""
    parser = argparse.ArgumentParser(description="Give LipSound2 damaged inputs of all kinds.")
    parser.add_argument("--cases", type=int, default=200, help="of each group")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--group", choices=("media", "data", "all"), default="all")
    parser.add_argument("--only", type=int, help="run this case alone and keep its input")
    parser.add_argument("--start", type=int, default=0, help="the first case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed; a temporary one by default")
    parser.add_argument("--all", action="store_true", help="print what came of every case")
    parser.add_argument("--seconds", type=float, default=Limits.seconds)
    parser.add_argument("--megabytes", type=float, default=Limits.megabytes)
    options = parser.parse_args()
    work = (options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    seeds = work / "seeds"
    if not seeds.exists():
        make_seeds(seeds)
    groups = ("media", "data") if options.group == "all" else (options.group,)
    first, count = (options.start, options.cases) if options.only is None else (options.only, 1)
    plan = Plan(seeds, work, options.seed, Limits(options.seconds, options.megabytes))
    cases = [(group, index) for index in range(first, first + count) for group in groups]
    return report(plan, cases, options.workers, options.all or len(cases) == 1)


def report(plan: Plan, cases: list[tuple[str, int]], workers: int, every: bool = False) -> int:
    """Run cases, print what failed, or every one, and a summary; returns 1 if any failed."""
    began = time.monotonic()
    outcomes = []
    for outcome in run(plan, cases, workers):
        outcomes.append(outcome)
        if every or outcome.kind not in GOOD:
            print(describe(outcome, plan), flush=True)
    took = time.monotonic() - began
    for (group, target, kind), count in sorted(Counter((o.group, o.target, o.kind) for o in outcomes).items()):
        print(f"  {group:6} {target or 'lost':10} {kind:10} {count:6}")
    kinds = Counter(dict.fromkeys(KINDS, 0) | Counter(outcome.kind for outcome in outcomes))
    print(f"seed {plan.seed}: {len(cases)} cases in {took:.0f} s ({len(cases) / took:.1f} a second)")
    print(", ".join(f"{kinds[kind]} {kind}" for kind in KINDS))
    print(f"at most {max(o.seconds for o in outcomes):.1f} s and {max(o.megabytes for o in outcomes):.0f} MB a case")
    failed = sum(kinds[kind] for kind in KINDS if kind not in GOOD)
    if failed:
        print(f"{failed} failed; their inputs are in {plan.work}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
