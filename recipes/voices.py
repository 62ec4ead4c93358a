"""More speech of simulated speakers, without pictures: `voices.py GRID FIRST LAST OUTPUT`.

Says what the clips FIRST to LAST - 1 of `lipsound2 simulate --speakers 8 --grammar grid --like GRID` say, none of the
test split, and puts sound and transcripts into OUTPUT, for `lipsound2 recognizer finetune --speech OUTPUT`. Filming
them would take three times as long.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lipsound2.data.sample import Sample, encode_wave
from lipsound2.data.shards import INDEX_NAME, to_lines, write_shard
from lipsound2.runtime.atomic import write_text
from lipsound2.simulate.sentences import held_out_by
from lipsound2.simulate.studio import FPS, Plan, SimulateConfig, Studio, speaker_name
from lipsound2.simulate.voice import SAMPLE_RATE


def say(studio: Studio, plans: Sequence[Plan]) -> Iterator[Sample]:
    """Speak one clip after the other."""
    for plan in plans:
        wave = studio.say(plan).wave
        meta: dict[str, object] = {
            "id": plan.name,
            "speaker": speaker_name(plan.speaker),
            "split": plan.split,
            "transcript": plan.sentence.transcript,
            "sample_rate": SAMPLE_RATE,
            "fps": FPS,
            "frames": len(wave) * FPS // SAMPLE_RATE,
        }
        text = json.dumps(meta, ensure_ascii=False, sort_keys=True)
        yield Sample(plan.name, {"json": text.encode(), "flac": encode_wave(wave, SAMPLE_RATE)}, meta)


def main(grid: Path, first: int, last: int, output: Path) -> None:
    """Write one shard a split, then the index."""
    studio = Studio(SimulateConfig(clips=last, speakers=8), held_out_by(grid))
    plans = [studio.plan(clip) for clip in range(first, last)]
    output.mkdir(parents=True, exist_ok=True)
    entries = []
    for split in ("train", "val"):
        chosen = [plan for plan in plans if plan.split == split]
        entries += write_shard(output / f"{split}-00000.tar", say(studio, chosen))
    write_text(output / INDEX_NAME, to_lines(entries))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
