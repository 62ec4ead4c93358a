"""Videos and folders of videos -> files of speech; one bad video does not stop the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lipsound2 import media
from lipsound2.corpora.folder import find_videos
from lipsound2.errors import ConfigError, LipSoundError, MediaError
from lipsound2.faces import Tracking
from lipsound2.pipeline import FORMATS, Pipeline, Speech, check_targets
from lipsound2.terminal import console, show_error, warn

LONG_GAP = 1.0
"""Seconds without a face that are worth a warning."""


@dataclass(frozen=True)
class Job:
    """One video and where its speech goes, without suffix."""

    video: Path
    target: Path


@dataclass(frozen=True)
class Options:
    """What is done with each video.

    Attributes:
        face: As in `Pipeline.speak_each`.
        formats: Some of `pipeline.FORMATS`.
        force: Whether to overwrite.
    """

    face: str = "largest"
    formats: tuple[str, ...] = FORMATS
    force: bool = False

    def __post_init__(self) -> None:
        unknown = set(self.formats) - set(FORMATS)
        if unknown:
            raise ConfigError(f"unknown format {min(unknown)!r}", f"some of {','.join(FORMATS)}")


def find_jobs(inputs: list[Path], output: Path) -> list[Job]:
    """List the videos of files and folders, each with a target of its own below `output`.

    A folder's videos keep their place in it. Videos of the same name get a number.

    Raises:
        MediaError: An input folder holds no video.
    """
    jobs: list[Job] = []
    taken: set[Path] = set()
    for source in inputs:
        videos = find_videos(source) if source.is_dir() else [source]
        if not videos:
            raise MediaError(f"no video in the folder {source}", "known are mp4, mov, mkv, avi, webm, mpg and the like")
        for video in videos:
            place = video.parent.relative_to(source) if source.is_dir() else Path()
            target = wanted = output / place / video.stem
            number = 2
            while target in taken:
                target = wanted.with_name(f"{wanted.name}-{number}")
                number += 1
            taken.add(target)
            jobs.append(Job(video, target))
    return jobs


def speak_all(pipeline: Pipeline, jobs: list[Job], options: Options) -> int:
    """Speak each video and print the files written, one a line, on stdout.

    Args:
        pipeline: Loaded once for all.
        jobs: The videos.
        options: What to do with each.

    Returns:
        How many videos failed.

    Raises:
        StorageError: Nothing more can be written.
    """
    failures = 0
    for job in jobs:
        try:
            for path in _speak(pipeline, job, options):
                print(path)  # noqa: T201
        except LipSoundError as error:
            if len(jobs) == 1:
                raise
            show_error(error)
            failures += 1
    return failures


def list_faces(pipeline: Pipeline, jobs: list[Job]) -> int:
    """Print the face tracks of each video on stdout; returns how many videos failed."""
    failures = 0
    for job in jobs:
        try:
            print(f"{job.video}\n{describe(pipeline.track(job.video), pipeline.model.config.video.fps)}")  # noqa: T201
        except LipSoundError as error:
            if len(jobs) == 1:
                raise
            show_error(error)
            failures += 1
    return failures


def describe(tracking: Tracking, fps: int) -> str:
    """Tell of each face track when and where it is seen, one a line."""
    lines = [
        f"  face {number}: {track.start / fps:.2f}-{track.stop / fps:.2f} s, at ({track.center[0]:.0f}, "
        f"{track.center[1]:.0f}), {track.area**0.5:.0f} pixels"
        for number, track in enumerate(tracking.tracks, 1)
    ]
    return "\n".join(lines) or "  no face"


def _speak(pipeline: Pipeline, job: Job, options: Options) -> Iterator[Path]:
    # Refuse before an hour of work, not after it.
    if options.face != "all":
        targets = [job.target.with_name(f"{job.target.name}.{suffix}") for suffix in options.formats]
        check_targets(targets, job.video, options.force)
    with _progress() as progress:
        bar = progress.add_task(job.video.name, total=1.0, stage="")
        voices = pipeline.speak_each(
            job.video, options.face, lambda stage, share: progress.update(bar, completed=share, stage=stage)
        )
        for number, speech in enumerate(voices, 1):
            name = job.target.name + (f"-face{number}" if options.face == "all" else "")
            _warn(speech)
            progress.update(bar, stage="writing")
            yield from speech.save(job.target.parent, name, options.formats, options.force)


def _warn(speech: Speech) -> None:
    long = [(start, stop) for start, stop in speech.gaps if stop - start >= LONG_GAP]
    if long:
        places = ", ".join(f"{start:.1f}-{stop:.1f} s" for start, stop in long)
        warn(f"{speech.source}: no face at {places}; silence there")
    stated = media.probe(speech.source).duration or 0.0
    if speech.seconds < stated - LONG_GAP:
        warn(f"{speech.source}: the picture ends at {speech.seconds:.1f} s of {stated:.1f} s; the file may be damaged")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
