"""Measure `lipsound2 live`: how late it is, how much worse than `speak`, and whether its memory grows.

    python benchmarks/live.py GRID/s1 --splits recipes/grid-s1-splits.csv          # quality and delay
    python benchmarks/live.py GRID/s1 --splits recipes/grid-s1-splits.csv --only quality --split val --ahead 2 4 6
    python benchmarks/live.py GRID/s1 --splits recipes/grid-s1-splits.csv --only cpu --ahead 4 6  # on a busy machine
    python benchmarks/live.py GRID/s1 --splits recipes/grid-s1-splits.csv --hours 1

Quality: STOI of clips with their own audio as reference, spoken whole and live (hop by hop, with the face followed as
it comes; not in real time, but no hop is larger than in time). Delay: the same clips one after the other as a camera,
in real time; from when a frame is seen to when its sound is heard, by stamps. Memory: the same for so many hours of
video, as fast as it goes.
"""

import argparse
import csv
import itertools
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pystoi import stoi

from lipsound2 import media
from lipsound2.inference import pipeline
from lipsound2.inference.recognizers import choose
from lipsound2.live.camera import Camera, Shot
from lipsound2.live.captions import Captions
from lipsound2.live.session import Account, Pace, Session
from lipsound2.packs import find_pack
from lipsound2.recognizer.beam import BeamConfig

RATE = 16_000


def find_clips(folder: Path, splits: Path | None, split: str, count: int) -> list[Path]:
    """Take clips of a split, spread evenly."""
    found = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix in media.VIDEO_SUFFIXES}
    if splits:
        rows = csv.DictReader(splits.open(encoding="utf-8"))
        names = [Path(row["clip"]).name for row in rows if row["split"] == split]
        found = {name: found[name] for name in names if name in found}
    chosen = list(found.values())
    return [chosen[round(i * (len(chosen) - 1) / max(1, count - 1))] for i in range(min(count, len(chosen)))]


def listen(
    speaker: pipeline.Pipeline, pace: Pace, camera: Camera, images: Iterator[np.ndarray], count: int, captions: bool
) -> tuple[np.ndarray, Account, int]:
    """Film and listen; return the sound, the account and how many words were settled."""
    heard: list[np.ndarray] = []
    words: list[str] = []
    reader = None
    if captions:
        packed = find_pack("grid-s1").recognizer
        recognizer = choose("jasper", packed, "cpu", BeamConfig(), needs_language=True)
        reader = Captions(recognizer, RATE, lambda caption: words.extend(word.text for word in caption.settled))
    session = Session(speaker, pace, lambda samples, _: heard.append(samples[: 10 * RATE]), reader)
    film(camera, images, count)
    account = session.run(camera)
    return np.concatenate(heard), account, len(words)


def frames(clips: list[Path], fps: int) -> Iterator[np.ndarray]:
    """Return the frames of all clips, again and again."""
    kept = [[image for _, image in media.stream_frames(path, fps)] for path in clips]
    return itertools.chain.from_iterable(itertools.cycle(kept))


def film(camera: Camera, images: Iterator[np.ndarray], count: int) -> threading.Thread:
    """Feed a camera from a thread, in real time unless it is patient."""

    def run() -> None:
        began = time.monotonic()
        for number, image in enumerate(itertools.islice(images, count)):
            if not camera.patient:
                time.sleep(max(0.0, began + number / camera.fps - time.monotonic()))
            camera.put(number / camera.fps, image)
        camera.end()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def quality(speaker: pipeline.Pipeline, paces: list[Pace], clips: list[Path]) -> None:
    """Print STOI of clips spoken whole and live."""
    rows = []
    for path in clips:
        reference = media.read_audio(path, RATE)
        assert reference is not None
        waves = [speaker.speak(path).wave]
        images = [image for _, image in media.stream_frames(path, 25)]
        for pace in paces:
            camera = Camera(25, most=pace.hop, patient=True)
            waves.append(listen(speaker, pace, camera, iter(images), len(images), captions=False)[0])
        size = min(len(reference), *map(len, waves))
        rows.append([stoi(reference[:size], wave[:size], RATE) for wave in waves])
        print(path.stem, *(f"{value:.3f}" for value in rows[-1]), flush=True)
    whole, *live = np.mean(rows, axis=0)
    for pace, mean in zip(paces, live, strict=True):
        print(f"STOI of {len(rows)} clips, ahead {pace.ahead}: whole {whole:.3f}, live {mean:.3f}, {mean - whole:+.3f}")


def delay(speaker: pipeline.Pipeline, pace: Pace, clips: list[Path], seconds: float, captions: bool) -> None:
    """Print how late sound is in real time, and what a hop costs."""
    camera = Camera(25)
    began = time.process_time()
    sound, account, words = listen(speaker, pace, camera, frames(clips, 25), round(25 * seconds), captions)
    used = time.process_time() - began
    print(f"{seconds:.0f} s in real time, captions {'on' if captions else 'off'}: {account}")
    print(f"most {max(account.delays):.2f} s; {camera.dropped} dropped, {camera.repeated} repeated; {words} words")
    print(f"CPU: {used / len(sound) * RATE:.2f} s for each second, {1000 * used / account.hops:.0f} ms a hop")


class Counted(Camera):
    """A camera in CPU time, for machines that have other work: waiting for frames takes none.

    Args:
        fps: Frames a second.
        images: Its pictures.
    """

    def __init__(self, fps: int, images: Iterator[np.ndarray]) -> None:
        super().__init__(fps)
        self.coming = enumerate(images)
        self.next = next(self.coming, None)
        self.waited = -time.process_time()

    def now(self) -> float:
        """Return the time."""
        return self.waited + time.process_time()

    def take(self, least: int, most: int | None = None) -> list[Shot]:
        """Let frames come that are due, and wait for those that are asked for."""
        while self.next is not None and (self.next[0] / self.fps <= self.now() or len(self._waiting) < least):
            number, image = self.next
            self.waited += max(0.0, number / self.fps - self.now())
            self.put(number / self.fps, image, seen=number / self.fps)
            self.next = next(self.coming, None)
        if self.next is None:
            self.end()
        return super().take(least, most)


def counted(speaker: pipeline.Pipeline, pace: Pace, clips: list[Path], seconds: float) -> None:
    """Print how late sound is where work takes its CPU time and nothing else."""
    kept = list(itertools.islice(frames(clips, 25), round(25 * seconds)))
    camera = Counted(25, iter(kept))
    session = Session(speaker, pace, lambda *_: None, clock=camera.now)
    camera.waited = -time.process_time()
    account = session.run(camera)
    print(f"{seconds:.0f} s in CPU time, ahead {pace.ahead}: {account}; {camera.dropped} dropped", flush=True)


def memory(speaker: pipeline.Pipeline, pace: Pace, clips: list[Path], hours: float) -> None:
    """Print the resident memory while hours of video are spoken."""
    packed = find_pack("grid-s1").recognizer
    recognizer = choose("jasper", packed, "cpu", BeamConfig(), needs_language=True)
    camera = Camera(25, patient=True)
    film(camera, frames(clips, 25), round(90_000 * hours))
    heard, marks = [0.0], []

    def hear(samples: np.ndarray, _: float) -> None:
        heard[0] += len(samples) / RATE
        if heard[0] >= 300 * len(marks):
            marks.append(resident())
            print(f"{heard[0] / 60:.0f} minutes: {marks[-1]:.0f} MB", flush=True)

    Session(speaker, pace, hear, Captions(recognizer, RATE, lambda _: None)).run(camera)
    print(f"{heard[0] / 60:.1f} minutes: {resident():.0f} MB, at most {peak():.0f} MB")
    print(f"growth after the first five minutes: {resident() - marks[min(1, len(marks) - 1)]:+.0f} MB")


def resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def peak() -> float:
    """Return the most that it ever was."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--splits", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--hop", type=int, default=Pace.hop)
    parser.add_argument("--ahead", type=int, nargs="+", default=[Pace.ahead], help="more than one only for quality")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--only", choices=["quality", "delay", "cpu"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    speaker = pipeline.load("grid-s1", "griffin-lim", "cpu")
    paces = [Pace(given.hop, ahead) for ahead in given.ahead]
    pace = paces[0]
    clips = find_clips(given.videos, given.splits, given.split, given.clips)
    print(f"hop {pace.hop}, ahead {given.ahead} frames; {torch.get_num_threads()} threads")
    if given.hours:
        memory(speaker, pace, clips[:5], given.hours)
        return
    if given.only == "cpu":
        for each in paces:
            counted(speaker, each, clips[:5], given.seconds)
        return
    if given.only != "delay":
        quality(speaker, paces, clips)
    if given.only != "quality":
        for captions in (False, True):
            delay(speaker, pace, clips, given.seconds, captions)


if __name__ == "__main__":
    main()
