"""How grid-s1 tells faces that it knows from others: `familiarity.py film` and `familiarity.py fit`.

    familiarity.py film GRID/ films/                    films known and unknown simulated speakers
    lipsound2 prepare folder films/ -o prepared-films/
    familiarity.py fit prepared/ prepared-films/ PACK   writes familiarity.* into PACK and prints what comes out

Known are s1 and the pack's eight simulated speakers: their training clips give the statistics, validation clips place
the threshold, test clips are only counted. Unknown are simulated speakers of other seeds: `CALIBRATED_ON` places the
threshold, `TESTED_ON` and GRID's s4 are only counted. Simulated clips are seen for a second (`FRAMES`), as filming
takes long; the test clips of known speakers are whole.
"""

import csv
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from lipsound2.corpora.clip import spread
from lipsound2.corpora.splits import SPLITS_NAME
from lipsound2.packs.familiarity import Familiarity, Features, Layer
from lipsound2.packs.pack import load_model, write_sums
from lipsound2.simulate.film import write_film
from lipsound2.simulate.sentences import held_out_by
from lipsound2.simulate.studio import FPS, Plan, SimulateConfig, Studio, speaker_name
from lipsound2.simulate.voice import SAMPLE_RATE
from lipsound2.training.familiarity import calibrate, fit, look_at_clips

CALIBRATED_ON = (1, 2)
TESTED_ON = (101, 102)
FRAMES = slice(15, 40)
CLIPS = {"train": 5, "val": 1, "test": 2}
SIMULATED = [speaker_name(number) for number in range(8)]


def plans(grid: Path) -> Iterator[tuple[Studio, str, Plan]]:
    """List what to film: the studio, the speaker's name in the corpus, the clip."""
    known = Studio(SimulateConfig(clips=2400, speakers=8), held_out_by(grid))
    made = [known.plan(clip) for clip in range(1580)]
    for speaker in range(8):
        for split, count in CLIPS.items():
            last = 1580 if split == "train" else 800
            chosen = [plan for plan in made[:last] if plan.speaker == speaker and plan.split == split]
            if split == "train":
                chosen = spread(chosen, 20)
                random.Random(speaker).shuffle(chosen)
            yield from ((known, speaker_name(speaker), plan) for plan in chosen[:count])
    for split, seeds in (("val", CALIBRATED_ON), ("test", TESTED_ON)):
        for seed in seeds:
            studio = Studio(SimulateConfig(clips=48, speakers=8, seed=seed))
            for clip in range(8):
                plan = studio.plan(clip)
                yield studio, f"seed{seed}-{speaker_name(plan.speaker)}", plan._replace(split=split)


def film(grid: Path, output: Path) -> None:
    """Film what is missing."""
    rows = []
    for studio, speaker, plan in plans(grid):
        path = output / speaker / f"{plan.clip:04d}-{plan.sentence.name}.mp4"
        rows.append([path.relative_to(output).with_suffix("").as_posix(), speaker, plan.split])
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = studio.shoot(plan)
        seen = slice(0, shot.frames) if plan.split == "test" and speaker in SIMULATED else FRAMES
        sound = shot.utterance.wave[seen.start * SAMPLE_RATE // FPS : seen.stop * SAMPLE_RATE // FPS]
        pictures = islice(shot.pictures, seen.start, seen.stop)
        write_film(path, pictures, FPS, sound, SAMPLE_RATE, shot.take.lens.crf)
    with (output / SPLITS_NAME).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["clip", "speaker", "split"], *rows])


def make(prepared: Path, films: Path, pack: Path) -> None:
    """Fit, calibrate, write, and count the test clips."""
    layer = Layer()
    model = load_model(pack / "model")

    def see(folder: Path, split: str, speakers: Sequence[str], clips: int = 0) -> list[list[Features]]:
        """Return the clips of each speaker, and those of their mirror images."""
        return list(look_at_clips(model, folder, split, layer, speakers, clips).values())

    def strangers(seeds: Iterable[int]) -> list[str]:
        return [f"seed{seed}-{name}" for seed in seeds for name in SIMULATED]

    train = [*see(prepared, "train", ["s1"], 50), *see(films, "train", SIMULATED)]
    statistics = fit({str(number): clips for number, clips in enumerate(train)})
    known = joined([*see(prepared, "val", ["s1"]), *see(films, "val", SIMULATED)])
    familiarity = Familiarity(
        statistics, calibrate(statistics, layer, known, joined(see(films, "val", strangers(CALIBRATED_ON))))
    )
    familiarity.save(pack)
    write_sums(pack)
    show(familiarity, "s1, test", see(prepared, "test", ["s1"]), known=True)
    show(familiarity, "simulated, test", see(films, "test", SIMULATED), known=True)
    show(familiarity, "other seeds", see(films, "test", strangers(TESTED_ON)), known=False)
    show(
        familiarity,
        "s4",
        [*see(prepared, "train", ["s4"]), *see(prepared, "val", ["s4"]), *see(prepared, "test", ["s4"])],
        known=False,
    )


def joined(speakers: Iterable[Iterable[Features]]) -> list[Features]:
    """Join the clips of all speakers."""
    return [clip for clips in speakers for clip in clips]


def show(familiarity: Familiarity, name: str, speakers: Sequence[Sequence[Features]], known: bool) -> None:
    """Print how many clips, as they are and mirrored, are told right."""
    for kind, chosen in (("", speakers[::2]), (", mirrored", speakers[1::2])):
        measures = sorted(familiarity(clip) for clip in joined(chosen))
        right = sum((familiarity.note(measure, "") is None) == known for measure in measures)
        print(f"{name}{kind}: {right} of {len(measures)} right, {measures[0]:.3f} to {measures[-1]:.3f}")


if __name__ == "__main__":
    if sys.argv[1] == "film":
        film(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        make(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
