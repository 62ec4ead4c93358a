"""Rates that were measured -> what a corpus takes from its download to a pack: machines, hours, TB, euros.

    python benchmarks/sizing.py                                        # VoxCeleb2, the example of docs/scale.md
    python benchmarks/sizing.py --hours 4700 --frames-per-core 150 --real-time 400 --epochs 20

Where each rate is measured is said in docs/scale.md. Nothing is measured here.
"""

import argparse


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What a corpus takes, from rates that were measured.")
    parser.add_argument("--hours", type=float, default=2442, help="of video; those of VoxCeleb2 by default")
    parser.add_argument("--published", type=float, default=0.3, help="TB to download")
    parser.add_argument("--line", type=float, default=100, help="MB a second of the download")
    parser.add_argument("--frames-per-core", type=float, default=163, help="frames a second and core that are prepared")
    parser.add_argument("--cores", type=int, default=32, help="of a machine that prepares")
    parser.add_argument("--machines", type=int, default=16, help="that prepare")
    parser.add_argument("--bytes", type=float, default=56_000, help="of a shard, for a second of video")
    parser.add_argument("--real-time", type=float, default=754, help="seconds of video a GPU trains on in a second")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--months", type=float, default=1, help="for which the shards are kept")
    parser.add_argument("--euros-core", type=float, default=0.04, help="for an hour of a core")
    parser.add_argument("--euros-gpu", type=float, default=2.5, help="for an hour of a GPU")
    parser.add_argument("--euros-tb", type=float, default=20, help="for a TB and month")
    print(table(parser.parse_args()))


def table(given: argparse.Namespace) -> str:
    """Return a Markdown table of the steps and their sum."""
    cores = given.hours * 25 / given.frames_per_core
    stored = given.hours * 3600 * given.bytes / 1e12
    epoch = given.hours / given.real_time
    every = epoch * given.epochs
    machines = given.cores * given.machines
    rows = [
        ("download", "", given.published / (0.0036 * given.line), given.published, 0.0),
        ("prepare", f"{cores:.0f} core hours on {machines} cores", cores / machines, 0.0, cores * given.euros_core),
        ("shards", f"kept for {given.months:g} month(s)", 0.0, stored, stored * given.months * given.euros_tb),
        ("an epoch", f"{epoch:.1f} GPU hours on 1 GPU", epoch, 0.0, epoch * given.euros_gpu),
        (
            f"{given.epochs} epochs",
            f"{every:.0f} GPU hours on {given.gpus} GPUs",
            every / given.gpus,
            0.0,
            every * given.euros_gpu,
        ),
    ]
    lines = [
        f"| {name} | {what} | {_told(took)} | {_told(tb)} | {_told(cost)} |" for name, what, took, tb, cost in rows
    ]
    counted = [row for row in rows if row[0] != "an epoch"]
    took, tb, cost = (sum(row[column] for row in counted) for column in (2, 3, 4))  # type: ignore[misc]
    head = ["| step | what | hours | TB | euros |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines, f"| in all | | {_told(took)} | {_told(tb)} | {_told(cost)} |"])


def _told(value: float) -> str:
    return f"{value:.2g}" if 0 < value < 10 else f"{value:.0f}" if value else ""


if __name__ == "__main__":
    main()
