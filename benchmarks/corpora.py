"""The same clips laid out as each corpus, prepared, trained on for an epoch and scored: what differs?

    lipsound2 simulate -o sim --speakers 8               # clips with the names of GRID
    python benchmarks/corpora.py sim -o corpora          # a second call resumes
    python benchmarks/corpora.py sim -o corpora --count 24 --only folder grid lrs2

Each layout is the published one, with the sound in the video or beside it as there, and holds the same clips in the
same splits. One row a layout: clips by split; the samples whose video and whose audio differ from those of the first
layout; the training's score; the mean ESTOI of one model, the first that was trained, on the test clips of each.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import NamedTuple

import av

from lipsound2.config import AudioConfig
from lipsound2.corpora.clip import split_by_hash, spread
from lipsound2.corpora.lrs import VAL as LRS3_VAL
from lipsound2.corpora.segments import VAL as SEGMENTS_VAL
from lipsound2.corpora.tcd_timit import TEST_VOLUNTEERS
from lipsound2.corpora.voxceleb2 import VAL as VOXCELEB2_VAL
from lipsound2.data.shards import clip_of, read_index, read_member
from lipsound2.media import read_audio
from lipsound2.media.sound import write_wav

NAME = re.compile(r"[blps][bgrw][abiw][a-z][z1-9][anps]")
HAN = "\u4e2d\u56fd\u4eba"
SPLITS = ("train", "val", "test")
EXACT = ("--metric", "estoi", "--vocoder", "griffin-lim")


class Source(NamedTuple):
    """A clip, and its place among those of its speaker."""

    video: Path
    speaker: int
    number: int
    split: str

    @property
    def said(self) -> str:
        """Return what is said."""
        return self.video.with_suffix(".txt").read_text(encoding="utf-8").strip()


Layout = Callable[[Path, Source], str]
"""Lays a clip out below a root and returns the id that the reader gives it."""


def main() -> None:
    """Lay out, prepare, train, score, print."""
    parser = argparse.ArgumentParser(description="The same clips laid out as each corpus.")
    parser.add_argument("clips", type=Path, help="SPEAKER/NAME.mp4 with NAME.txt, named as those of GRID")
    parser.add_argument("-o", "--output", type=Path, default=Path("corpora"))
    parser.add_argument("--count", type=int, default=200, help="number of clips, spread evenly")
    parser.add_argument("--only", nargs="*", choices=list(LAYOUTS), default=list(LAYOUTS))
    parser.add_argument("--workers", default="1", help="processes that prepare")
    parser.add_argument("--train", nargs="*", choices=list(LAYOUTS), help="layouts to train on; all by default")
    options = parser.parse_args()
    clips = sources(options.clips, options.count)
    print("| layout | train, val, test | other video | other audio | trained: score | one model: ESTOI |")
    print("|---|---|---|---|---|---|", flush=True)
    first: dict[Path, tuple[str, str]] = {}
    trained = options.only if options.train is None else options.train
    for name in options.only:
        ids = lay_out(LAYOUTS[name], clips, options.output / name / "corpus")
        prepared, run = options.output / name / "prepared", options.output / name / "run"
        command("prepare", name, options.output / name / "corpus", "-o", prepared, "--workers", options.workers)
        found, splits = digests(prepared, ids)
        first = first or found
        others = [sum(found.get(clip, ("", ""))[part] != first[clip][part] for clip in first) for part in (0, 1)]
        score = train(prepared, run) if name in trained else ""
        estoi = evaluate(options.output / trained[0] / "run", prepared, options.output / name / "report")
        counts = ", ".join(str(splits[split]) for split in SPLITS)
        print(f"| {name} | {counts} | {others[0]} | {others[1]} | {score} | {estoi} |", flush=True)


def sources(root: Path, limit: int) -> list[Source]:
    """List clips in the split that GRID's reader draws."""
    videos = sorted(path for path in root.glob("*/*.mp4") if NAME.fullmatch(path.stem))
    speakers = {name: number for number, name in enumerate(sorted({path.parent.name for path in videos}), 1)}
    seen = Counter[str]()
    chosen = []
    for path in spread(videos, limit):
        seen[path.parent.name] += 1
        chosen.append(Source(path, speakers[path.parent.name], seen[path.parent.name], split_by_hash(path.stem)))
    return chosen


def lay_out(layout: Layout, clips: list[Source], root: Path) -> dict[str, Path]:
    """Lay clips out, and return the clip of each id."""
    root.mkdir(parents=True, exist_ok=True)
    for path in root.glob("*.*"):
        path.unlink()  # lists, which are written anew
    return {layout(root, clip): clip.video for clip in clips}


def folder(root: Path, clip: Source) -> str:
    """Lay out as a folder of videos."""
    name = f"{clip.split}/s{clip.speaker}/{clip.video.stem}"
    link(clip.video, root / f"{name}.mp4")
    text(root / f"{name}.txt", clip.said)
    return name


def grid(root: Path, clip: Source) -> str:
    """Lay out as GRID: the speaker and the sentence are in the name."""
    link(clip.video, root / f"s{clip.speaker}/{clip.video.stem}.mpg")
    return f"s{clip.speaker}/{clip.video.stem}"


def lombard_grid(root: Path, clip: Source) -> str:
    """Lay out as Lombard GRID, from the front, with its sound in a folder of its own."""
    stem = f"p_{clip.video.stem}"
    link(clip.video, root / f"lombardgrid/front/s{clip.speaker}_{stem}.mov")
    wav(clip.video, root / f"lombardgrid/audio/s{clip.speaker}_{stem}.wav")
    return f"s{clip.speaker}/{stem}"


def tcd_timit(root: Path, clip: Source) -> str:
    """Lay out as TCD-TIMIT, with the sound beside; the split is that of the volunteers."""
    names = (f"{number:02}{sex}" for number in range(clip.speaker, 100) for sex in "MF")
    known = (name for name in names if name not in TEST_VOLUNTEERS)
    drawn = first_in(known, clip.split, 0.05) if clip.split != "test" else TEST_VOLUNTEERS[clip.speaker]
    below = f"{drawn}/Clips/straightcam/{clip.video.stem}"
    link(clip.video, root / f"volunteers/{below}.mp4")
    wav(clip.video, root / f"volunteers/{below}.wav")
    text(root / f"volunteers/{below}.txt", f"0 46797 {clip.said}")
    return f"{drawn}/{clip.video.stem}"


def lrs2(root: Path, clip: Source) -> str:
    """Lay out as LRS2, with its lists."""
    below = f"{5535415699068794046 + clip.speaker}/{clip.number:05}"
    link(clip.video, root / f"mvlrs_v1/main/{below}.mp4")
    text(root / f"mvlrs_v1/main/{below}.txt", f"Text:  {clip.said.upper()}\nConf:  4")
    row(root / f"{clip.split}.txt", below)
    return f"main/{below}"


def lrs3(root: Path, clip: Source) -> str:
    """Lay out as LRS3; the split is that of the talks."""
    part = "test" if clip.split == "test" else "trainval"
    drawn = first_in((f"{clip.speaker}talk{n:06}" for n in count()), clip.split, LRS3_VAL)
    below = f"{part}/{drawn}/{clip.number:05}"
    link(clip.video, root / f"{below}.mp4")
    text(root / f"{below}.txt", f"Text:  {clip.said.upper()}\nConf:  4")
    return below


def voxceleb2(root: Path, clip: Source) -> str:
    """Lay out as VoxCeleb2, with the sound in a folder of its own; the split is that of the speakers."""
    part = "test" if clip.split == "test" else "dev"
    drawn = first_in((f"id{clip.speaker}{n:04}" for n in count()), clip.split, VOXCELEB2_VAL)
    name = f"{drawn}/21Uxsk56VDQ/{clip.number:05}"
    link(clip.video, root / part / f"mp4/{name}.mp4")
    m4a(clip.video, root / part / f"aac/{name}.m4a")
    return name


def avspeech(root: Path, clip: Source) -> str:
    """Lay out as AVSpeech: tables of segments, with the place of the face."""
    table = "test" if clip.split == "test" else "train"
    stem = f"{clip.speaker}{clip.number:04}"
    drawn = first_in((f"{stem}{n:06}" for n in count()), clip.split, SEGMENTS_VAL)
    link(clip.video, root / f"videos/{drawn}.mp4")
    with av.open(str(clip.video)) as container:
        end = round(container.streams.video[0].frames / 25, 2)
    row(root / f"avspeech_{table}.csv", f"{drawn},0,{end},0.5,0.45")
    return f"{drawn}/{0:.3f}-{end:.3f}"


def cmlr(root: Path, clip: Source) -> str:
    """Lay out as CMLR, with its lists, the sound in a folder of its own and a Chinese text."""
    below = f"s{clip.speaker}/20170121/section_{clip.number}_000.00_003.00"
    link(clip.video, root / f"video/{below}.mp4")
    wav(clip.video, root / f"audio/{below}.wav")
    text(root / f"text/{below}.txt", HAN)
    row(root / f"{clip.split}.csv", below)
    return below


LAYOUTS: dict[str, Layout] = {
    "folder": folder,
    "grid": grid,
    "lombard-grid": lombard_grid,
    "tcd-timit": tcd_timit,
    "lrs2": lrs2,
    "lrs3": lrs3,
    "voxceleb2": voxceleb2,
    "avspeech": avspeech,
    "cmlr": cmlr,
}


def first_in(names: Iterator[str], split: str, val: float) -> str:
    """Return the first name that is drawn for a split; test clips lie in a place of their own."""
    return next(name for name in names if split == "test" or split_by_hash(name, val, 0.0) == split)


def link(source: Path, target: Path) -> None:
    """Link a file, so that it takes no room."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        os.link(source, target)


def text(path: Path, said: str) -> None:
    """Write a text on a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{said}\n", encoding="utf-8")


def row(path: Path, line: str) -> None:
    """Add a row to a list."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def wav(video: Path, target: Path) -> None:
    """Write the sound of a video as 16-bit PCM."""
    target.parent.mkdir(parents=True, exist_ok=True)
    rate = AudioConfig().sample_rate
    wave = read_audio(video, rate)
    assert wave is not None
    write_wav(target, wave, rate)


def m4a(video: Path, target: Path) -> None:
    """Copy the sound of a video as it is encoded."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(video)) as reader, av.open(str(target), "w", format="ipod") as writer:
        stream = writer.add_stream_from_template(reader.streams.audio[0])
        for packet in reader.demux(reader.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)


def command(*words: object) -> str:
    """Run a command of the package and return what it prints."""
    line = [sys.executable, "-m", "lipsound2", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(line)}\n{done.stderr}")
    return done.stdout


def train(prepared: Path, run: Path) -> str:
    """Train for an epoch and return the score."""
    return command("pretrain", prepared, "-o", run, "--preset", "small", "--epochs", 1).split()[-1]


def evaluate(pack: Path, prepared: Path, report: Path) -> str:
    """Score the test clips with one model; that some lay in its training set elsewhere does not matter here."""
    words = ("--pack", pack, "--data", prepared, "-o", report, "--include-trained", *EXACT, "--workers", 1)
    command("evaluate", *words)
    with (report / "clips.csv").open(encoding="utf-8", newline="") as file:
        scores = [float(line["estoi"]) for line in csv.DictReader(file) if line["row"] == "pack"]
    return f"{sum(scores) / len(scores):.6f}"


def digests(prepared: Path, ids: dict[str, Path]) -> tuple[dict[Path, tuple[str, str]], Counter[str]]:
    """Return the digests of each clip's video and audio, and the number of clips of each split."""
    found, splits = {}, Counter[str]()
    for entry in read_index(prepared):
        splits[str(entry.meta["split"])] += 1
        suffixes = [suffix for suffix in entry.members if suffix != "json"]
        by = {suffix: sha256(read_member(prepared, entry, suffix)).hexdigest() for suffix in suffixes}
        found[ids[clip_of(entry.meta)]] = by["mp4"], by["flac"]
    return found, splits


if __name__ == "__main__":
    main()
