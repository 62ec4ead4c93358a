"""How few clips of a new speaker are enough? `new_speaker.py GRID SIMULATED OUTPUT`.

GRID's speaker s4 is a woman whom no start has seen. On 5, 10, 20 and 30 of her clips a model is trained for 48 updates,
from the pack grid-s1 (a man, and simulated speakers), from SIMULATED (a run of `recipes/simulated.json` on simulated
speakers only) and from scratch, with three random seeds each. All are measured, free-running, on her 10 test clips.
Nothing is chosen by validation: the last weights (EMA) are taken. OUTPUT gets `table.md` and `curve.png`; a second call
goes on.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

RECIPES = Path(__file__).parent
SPEAKER, CLIPS, SEEDS = "s4", (5, 10, 20, 30), (0, 1, 2)
UPDATES, BATCH = 48, 5
SECONDS, PIECES = 2.0, 2
"""Of a training example, and how many of them a clip of 3 s counts as in an epoch."""
METRICS = {"STOI": "stoi", "ESTOI": "estoi", "WER, %": "wer_grid-s1"}
STARTS = {"pack": "the pack grid-s1", "simulated": "simulated speakers", "scratch": "from scratch"}


class Run(NamedTuple):
    """One training."""

    start: str
    clips: int
    seed: int

    def folder(self, output: Path) -> Path:
        """Return where it is kept."""
        return output / f"{self.start}-{self.clips}-{self.seed}"


def lipsound2(*words: str) -> None:
    """Run the command."""
    subprocess.run([sys.executable, "-m", "lipsound2", *words], check=True)


def prepare(grid: Path, output: Path) -> Path:
    """Prepare the speaker's clips; copies of the first five training clips stand in for validation clips."""
    videos = output / "videos"
    (videos / SPEAKER).mkdir(parents=True, exist_ok=True)
    with (grid / "splits.csv").open(encoding="utf-8") as file:
        known = {row["clip"]: row for row in csv.DictReader(file) if row["speaker"] == SPEAKER}
    first = sorted(clip for clip, row in known.items() if row["split"] == "train")[: CLIPS[0]]
    splits = ["clip,split"]
    for name, clip in [*((clip, clip) for clip in known), *((f"{clip}-again", clip) for clip in first)]:
        (source,) = grid.glob(f"{clip}.*")
        link = videos / f"{name}{source.suffix}"
        if not link.is_symlink():
            link.symlink_to(source.resolve())
        link.with_suffix(".txt").write_text(known[clip]["transcript"], encoding="utf-8")
        splits.append(f"{name},{known[clip]['split'] if name == clip else 'val'}")
    (videos / "splits.csv").write_text("\n".join([*splits, ""]), encoding="utf-8")
    lipsound2("prepare", "folder", str(videos), "-o", str(output / "prepared"))
    return output / "prepared"


def train(run: Run, prepared: Path, simulated: str, output: Path) -> None:
    """Train one model and measure it."""
    folder = run.folder(output)
    epochs = UPDATES * BATCH // (run.clips * PIECES)
    settings = {
        "train": {
            "epochs": epochs,
            "learning_rate": 0.0008,
            "warmup": 10,
            "ema": 0.95,
            "batch_size": BATCH,
            "show_every": 0,
            "validate_every": epochs,
        },
        "seconds": SECONDS,
        "loss": {"guided_weight": 4, "guided_epochs": epochs, "sampling_to": epochs},
    }
    if run.start == "scratch":
        settings["model"] = json.loads((RECIPES / "simulated.json").read_text(encoding="utf-8"))["model"]
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder.with_suffix(".json")
    recipe.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    start = {"pack": ["--from", "grid-s1"], "simulated": ["--from", simulated], "scratch": []}[run.start]
    command = "finetune" if start else "pretrain"
    lipsound2(command, str(prepared), *start, "-o", str(folder), "--recipe", str(recipe), "--clips", str(run.clips),
              "--seed", str(run.seed))  # fmt: skip
    measure(["--pack", str(folder)], prepared, folder / "report")


def measure(pack: list[str], prepared: Path, report: Path) -> None:
    """Measure on the speaker's test clips."""
    if not (report / "summary.json").is_file():
        metrics = ["--metric", "stoi", "--metric", "estoi", "--recognizer", "grid-s1"]
        lipsound2("evaluate", "--data", str(prepared), *pack, "--vocoder", "griffin-lim", *metrics, "-o", str(report))


def scores(report: Path) -> list[float]:
    """Return the means over the test clips, in the order of `METRICS`."""
    figures = json.loads((report / "summary.json").read_text(encoding="utf-8"))["figures"]["pack"]
    return [figures[name]["mean"] for name in METRICS.values()]


def collect(output: Path) -> dict[str, np.ndarray]:
    """Return the scores of each start: amounts of clips x seeds x metrics."""
    return {
        start: np.array([[scores(Run(start, n, seed).folder(output) / "report") for seed in SEEDS] for n in CLIPS])
        for start in STARTS
    }


def write_table(found: dict[str, np.ndarray], untouched: list[float], output: Path) -> None:
    """Write the mean of the seeds, and their standard deviation."""
    lines = [f"| start | clips | {' | '.join(METRICS)} |", "|---|---|" + "---|" * len(METRICS)]
    lines.append(f"| {STARTS['pack']} | 0 | {' | '.join(f'{value:.3f}' for value in untouched)} |")
    for start, values in found.items():
        for clips, seeds in zip(CLIPS, values, strict=True):
            cells = zip(seeds.mean(axis=0), seeds.std(axis=0, ddof=1), strict=True)
            lines.append(f"| {STARTS[start]} | {clips} | {' | '.join(f'{a:.3f} ± {b:.3f}' for a, b in cells)} |")
    (output / "table.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


def draw(found: dict[str, np.ndarray], output: Path) -> None:
    """Draw each metric over the amount of clips, a line for each start."""
    figure = Figure(figsize=(3.4 * len(METRICS), 3.3), layout="constrained")
    for place, (axis, name) in enumerate(zip(figure.subplots(1, len(METRICS)), METRICS, strict=True)):
        for start, values in found.items():
            mean, spread = values[:, :, place].mean(axis=1), values[:, :, place].std(axis=1, ddof=1)
            axis.errorbar(CLIPS, mean, spread, marker="o", capsize=3, label=STARTS[start])
        axis.set(title=name, xlabel="clips of the new speaker", xticks=CLIPS)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    figure.savefig(output / "curve.png", dpi=110)


def main(grid: str, simulated: str, output: str) -> None:
    """Train all models, measure them, write the table and draw the curve."""
    folder = Path(output)
    prepared = prepare(Path(grid), folder)
    measure(["--pack", "grid-s1"], prepared, folder / "pack")
    for seed in SEEDS:
        for clips in CLIPS:
            for start in STARTS:
                train(Run(start, clips, seed), prepared, simulated, folder)
    found = collect(folder)
    write_table(found, scores(folder / "pack"), folder)
    draw(found, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
