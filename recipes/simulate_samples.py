"""`lipsound2 simulate` -> the clips that ship with the project: `examples/` and `tests/data/sim/`.

    python recipes/simulate_samples.py

The examples are the first three clips of the default corpus (`lipsound2 simulate -o sim`) whose sentences
are held out for testing, no two of the same speaker. The tests' clips are a corpus of their own.
"""

import shutil
import tempfile
from pathlib import Path

import av

from lipsound2.runtime.atomic import atomic_path
from lipsound2.simulate import SimulateConfig, simulate
from lipsound2.simulate.corpus import make_clip
from lipsound2.simulate.studio import Plan, Studio

ROOT = Path(__file__).parents[1]
TEST_CLIPS = SimulateConfig(clips=6, speakers=2, seed=293, size=128, difficulty=0.5)
"""This seed gives four sentences to train on, one of each speaker's to hold out, and two faces that differ."""


def main() -> None:
    """Make both folders anew."""
    clips = ROOT / "tests" / "data" / "sim"
    shutil.rmtree(clips, ignore_errors=True)
    simulate(TEST_CLIPS, clips, workers=1)
    studio = Studio(SimulateConfig())
    with tempfile.TemporaryDirectory() as folder:
        for plan in held_out(studio, count=3):
            make_clip(studio, plan, Path(folder))
            copy_example(Path(folder) / plan.name, ROOT / "examples")


def held_out(studio: Studio, count: int) -> list[Plan]:
    """Find the first clips for testing, no two of the same speaker."""
    found: dict[int, Plan] = {}
    for clip in range(studio.config.clips):
        plan = studio.plan(clip)
        if plan.split == "test":
            found.setdefault(plan.speaker, plan)
    return sorted(found.values(), key=lambda plan: plan.clip)[:count]


def copy_example(clip: Path, examples: Path) -> None:
    """Copy a clip with its sound and its words, and once more without the sound."""
    examples.mkdir(exist_ok=True)
    for suffix in (".mp4", ".txt"):
        shutil.copy(clip.with_suffix(suffix), examples)
    silent = examples / f"{clip.name}-silent.mp4"
    with (
        atomic_path(silent) as temporary,
        av.open(str(clip.with_suffix(".mp4"))) as source,
        av.open(str(temporary), "w", format="mp4") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


if __name__ == "__main__":
    main()
