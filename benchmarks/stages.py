"""Measure speed and memory of every stage on this machine, and print docs/performance.md.

    python benchmarks/stages.py > docs/performance.md
    python benchmarks/stages.py --stage encoder --profile

Each stage runs in a process of its own, on a clip of three seconds, once to warm up and then a few times, of
which the median is reported; slow stages are run fewer times. Memory is the growth of the process at its
peak. `--stage` chooses stages by a part of their name, and `--profile` prints a profile. `--quick` only
checks that everything runs.
"""

import argparse
import cProfile
import io
import itertools
import multiprocessing
import multiprocessing.connection
import os
import platform
import pstats
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from lipsound2 import faces, media
from lipsound2.config import CONFIG_NAME, ModelConfig, paper, read_config
from lipsound2.errors import LipSoundError
from lipsound2.inference.pipeline import Pipeline
from lipsound2.model import LipSound2
from lipsound2.packs import Pack, find_pack
from lipsound2.recognizer.config import jasper_10x5dr, jasper_small
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.transcriber import JasperRecognizer, load_recognizer
from lipsound2.vocoder import GriffinLim, Vocoder
from lipsound2.vocoder.choose import choose_vocoder
from lipsound2.vocoder.config import WaveGlowConfig, waveglow_256
from lipsound2.vocoder.synthesis import WaveGlowVocoder
from lipsound2.vocoder.waveglow import WaveGlow

EXAMPLE = Path(__file__).parents[1] / "examples" / "bgal7s.mp4"
CLIP_SECONDS = 3.0
BATCH = {"pack": 16, "paper": 1}
"""Clips per training step."""

COLUMNS = "| stage | time | rate | times real time | memory |\n|---|---|---|---|---|"

Run = Callable[[], None]


@dataclass(frozen=True)
class Stage:
    """A stage to measure.

    Attributes:
        name: As in the table.
        make: Loads what is needed and returns the function to time.
        seconds: Seconds of speech per run; 0 where not applicable.
        units: Number of `unit` per run.
        unit: Such as `steps`.
    """

    name: str
    make: Callable[[], Run]
    seconds: float
    units: float = 0.0
    unit: str = ""


@dataclass(frozen=True)
class Measured:
    """Median seconds per run, growth of the process in bytes and, optionally, a profile; or the problem."""

    seconds: float = 0.0
    memory: int = 0
    problem: str = ""
    profile: str = ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure speed and memory of every stage.")
    parser.add_argument("--pack", default="grid-s1", help="name of a pack, or the folder of a pack or a run")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each process")
    parser.add_argument(
        "--quick", action="store_true", help="only check that everything runs; the figures are meaningless"
    )
    parser.add_argument("--stage", default="", help="only stages whose name contains this")
    parser.add_argument("--profile", action="store_true", help="also print the slowest operators")
    options = parser.parse_args()
    clip = 0.4 if options.quick else CLIP_SECONDS
    found = find_pack(options.pack)
    print(_head(found, options.threads, clip), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mpg"
        # In a process of its own, since threads of this one would be missing in later forks.
        maker = multiprocessing.get_context("fork").Process(target=make_video, args=(video, clip))
        maker.start()
        maker.join()
        groups = (
            (f"The pack {found.info.name}", pack_stages(found, video, clip)),
            ("The paper's sizes, with random weights", paper_stages(video, clip, options.quick)),
        )
        names = dict.fromkeys(stage.name for _, stages in groups for stage in stages)
        if not any(options.stage in name for name in names):
            parser.error(f"no stage's name contains {options.stage!r}; there are {', '.join(names)}")
        for title, stages in groups:
            print(f"\n## {title}\n\n{COLUMNS}", flush=True)
            for stage in stages:
                if options.stage in stage.name:
                    measured = measure(stage, options.threads, 1 if options.quick else 5, profiled=options.profile)
                    print(_line(stage, measured), flush=True)
                    print(measured.profile, end="", flush=True)


def pack_stages(found: Pack, video: Path, clip: float) -> list[Stage]:
    """List the stages of a pack, with its own parts and those that are installed."""
    config = read_config(found.model_folder / CONFIG_NAME, ModelConfig)
    vocoders: dict[str, Callable[[], Vocoder]] = {"griffin-lim": lambda: GriffinLim(config.audio)}
    if found.waveglow:
        vocoders["waveglow"] = lambda: choose_vocoder("waveglow", config.audio, found.waveglow)
    vocoders["hifigan"] = lambda: choose_vocoder("hifigan", config.audio, None)

    def speaker() -> Pipeline:
        return Pipeline(found.load_model(), choose_vocoder(found.info.vocoder, config.audio, found.waveglow))

    stages = [_decoding(video, clip), _faces(video, clip), *_model(config, found.load_model, clip)]
    stages += [_vocoder(f"vocoder {name}", make, clip) for name, make in vocoders.items()]
    if found.recognizer:
        stages.append(_recognizer(lambda: load_recognizer(found.recognizer or Path()), clip))
    return [*stages, _speak(speaker, video, clip), _training(config, BATCH["pack"], clip)]


def paper_stages(video: Path, clip: float, quick: bool) -> list[Stage]:
    """List the stages at the sizes of the paper and of its other networks."""
    config = paper()
    glow = WaveGlowConfig(channels=32) if quick else waveglow_256()
    reader = jasper_small() if quick else jasper_10x5dr()

    def speaker() -> Pipeline:
        return Pipeline(LipSound2(config).eval(), GriffinLim(config.audio))

    return [
        *_model(config, lambda: LipSound2(config).eval(), clip),
        _vocoder("vocoder waveglow", lambda: WaveGlowVocoder(WaveGlow(glow).eval()), clip / 3),
        _recognizer(lambda: JasperRecognizer(Jasper(reader).eval()), clip),
        _speak(speaker, video, clip),
        _training(config, BATCH["paper"], clip),
    ]


def _decoding(video: Path, clip: float) -> Stage:
    def run() -> None:
        # Faces are detected in one pass and cropped in another, so that no frame is kept.
        for _ in itertools.chain(media.stream_frames(video), media.stream_frames(video)):
            pass

    return Stage("decoding, twice", lambda: run, clip, 2 * clip * 25, "frames")


def _faces(video: Path, clip: float) -> Stage:
    def make() -> Run:
        detector = faces.MtcnnDetector()
        frames = list(media.stream_frames(video))

        def run() -> None:
            tracking = faces.find_tracks(iter(frames), detector)
            track = faces.select(tracking, "largest")[0][0]
            for _ in faces.crop_faces(iter(frames), track):
                pass

        return run

    return Stage("faces: find, follow, crop", make, clip, clip * 25, "frames")


def _model(config: ModelConfig, load: Callable[[], LipSound2], clip: float) -> list[Stage]:
    frames = round(clip * config.video.fps)
    mels = config.audio.mel_frames(frames, config.video.fps)
    lengths = torch.tensor([frames])

    def encoder() -> Run:
        model, video = load(), _video(config, 1, frames)
        return lambda: _discard(model.encode(video, lengths))

    def decoder() -> Run:
        model, video = load(), _video(config, 1, frames)
        memory = model.encode(video, lengths)
        return lambda: _discard(model.decode(memory))

    def postnet() -> Run:
        model, mel = load(), torch.randn(1, config.audio.n_mels, mels)
        return lambda: _discard(model.polish(mel, torch.tensor([mels])))

    return [
        Stage("encoder", encoder, clip, frames, "frames"),
        Stage("attention and decoder", decoder, clip, mels, "mel frames"),
        Stage("postnet", postnet, clip, mels, "mel frames"),
    ]


def _vocoder(name: str, load: Callable[[], Vocoder], clip: float) -> Stage:
    def make() -> Run:
        vocoder = load()
        frames = max(1, round(clip * vocoder.audio.sample_rate / vocoder.audio.hop_length))
        mel = torch.randn(vocoder.audio.n_mels, frames) - 5
        return lambda: _discard(vocoder(mel))

    return Stage(name, make, clip)


def _recognizer(load: Callable[[], JasperRecognizer], clip: float) -> Stage:
    def make() -> Run:
        recognizer = load()
        noise = np.random.default_rng(0).standard_normal(round(clip * recognizer.sample_rate))
        wave = (0.1 * noise).astype(np.float32)
        return lambda: _discard(recognizer.transcribe(wave))

    return Stage("recogniser", make, clip)


def _speak(load: Callable[[], Pipeline], video: Path, clip: float) -> Stage:
    def make() -> Run:
        pipeline = load()
        return lambda: _discard(pipeline.speak(video))

    return Stage("**speak**: video to audio", make, clip)


def _training(config: ModelConfig, batch: int, clip: float) -> Stage:
    def make() -> Run:
        torch.set_grad_enabled(True)
        frames = round(clip * config.video.fps)
        model = LipSound2(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
        video, lengths = _video(config, batch, frames), torch.full((batch,), frames)
        target = torch.randn(batch, config.audio.n_mels, config.audio.mel_frames(frames, config.video.fps))

        def run() -> None:
            predicted = model(video, lengths, target)
            before, after = (torch.nn.functional.mse_loss(mel, target) for mel in (predicted.before, predicted.after))
            optimizer.zero_grad()
            (before + after).backward()
            optimizer.step()

        return run

    return Stage(f"training step, {batch} clip{'s' * (batch > 1)}", make, clip * batch, 1, "steps")


def measure(stage: Stage, threads: int, most: int, budget: float = 6.0, profiled: bool = False) -> Measured:
    """Run a stage in a process of its own."""
    # A forked process has imported everything, so that its growth is the stage's own.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(stage, threads, most, budget, profiled, sender))
    process.start()
    sender.close()
    try:
        found: Measured = receiver.recv()
    except EOFError:
        found = Measured(problem="ended without a result, perhaps for want of memory")
    process.join()
    return found


def _work(
    stage: Stage,
    threads: int,
    most: int,
    budget: float,
    profiled: bool,
    sender: multiprocessing.connection.Connection,
) -> None:
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    before = _resident()
    try:
        run = stage.make()
        times = [_timed(run)]
        while len(times) <= most and sum(times) + times[-1] < budget:
            times.append(_timed(run))
    except LipSoundError as error:
        sender.send(Measured(problem=str(error)))
        return
    # The first run is a warm-up, unless there was only time for one.
    seconds = statistics.median(times[1:] or times)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    sender.send(Measured(seconds, memory, profile=_profile(run) if profiled else ""))


def _profile(run: Run) -> str:
    """Return the slowest operators of torch and functions of Python in one run."""
    functions = cProfile.Profile()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as operators:
        run()
    functions.runcall(run)
    lines = io.StringIO()
    pstats.Stats(functions, stream=lines).sort_stats("tottime").print_stats(15)
    table = operators.key_averages().table(sort_by="self_cpu_time_total", row_limit=15)
    return f"\n{table}\n{lines.getvalue()}\n"


def _timed(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def make_video(path: Path, seconds: float) -> None:
    """Write a video like those of GRID, 360 x 288 in MPEG-1, from the example's frames, forwards and backwards."""
    frames = [frame.image for frame in media.stream_frames(EXAMPLE)]
    order = itertools.cycle([*frames, *frames[::-1]])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg1video", rate=Fraction(25), options={"b": "2000000"})
        stream.width, stream.height, stream.pix_fmt = 360, 288, "yuv420p"
        for image in itertools.islice(order, round(seconds * 25)):
            padded = cv2.copyMakeBorder(cv2.resize(image, (288, 288)), 0, 0, 36, 36, cv2.BORDER_REPLICATE).astype(
                np.uint8
            )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode(None))


def _video(config: ModelConfig, batch: int, frames: int) -> torch.Tensor:
    size = config.video.size
    return torch.randint(0, 256, (batch, config.video.channels, frames, size, size), dtype=torch.uint8)


def _discard(_: object) -> None:
    """Drop a result."""


def _head(found: Pack, threads: int, clip: float) -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        "# Performance\n\n"
        "Made by `python benchmarks/stages.py > docs/performance.md`; run it again for your own machine.\n\n"
        f"Machine: {model}, {os.cpu_count()} cores, {threads} threads, no GPU; Python {platform.python_version()}, "
        f"torch {torch.__version__}. Pack: {found.info.name} {found.info.version}, vocoder {found.info.vocoder}.\n\n"
        f"Each stage by itself on a clip of {clip:g} s; times real time is seconds of speech per second of "
        "computation. Memory is what the stage adds to an empty process, weights included."
    )


def _line(stage: Stage, found: Measured) -> str:
    if found.problem:
        return f"| {stage.name} | {found.problem} | | | |"
    rate = f"{stage.units / found.seconds:.3g} {stage.unit}/s" if stage.units else ""
    return (
        f"| {stage.name} | {found.seconds * 1000:.0f} ms | {rate} "
        f"| {stage.seconds / found.seconds:.2f} | {found.memory / 1e6:.0f} MB |"
    )


if __name__ == "__main__":
    main()
