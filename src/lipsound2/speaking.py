"""Videos and folders of videos -> files of speech and text; one bad video does not stop the rest."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lipsound2 import media
from lipsound2.corpora.folder import find_videos
from lipsound2.errors import ConfigError, LipSoundError, MediaError, guard
from lipsound2.faces import Tracking
from lipsound2.pipeline import FORMATS, Pipeline, Speech, check_targets
from lipsound2.recognizer.recognizer import Recognizer
from lipsound2.subtitles import WRITERS
from lipsound2.terminal import console, show_error, warn
from lipsound2.text import Transcript

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
        formats: Some of `pipeline.FORMATS`, and of `subtitles.WRITERS`, for which speech is read.
        force: Whether to overwrite.
    """

    face: str = "largest"
    formats: tuple[str, ...] = FORMATS
    force: bool = False

    def __post_init__(self) -> None:
        check_formats(self.formats, (*FORMATS, *WRITERS))

    @property
    def text(self) -> bool:
        """Whether the speech is read."""
        return not WRITERS.keys().isdisjoint(self.formats)


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


def speak_all(pipeline: Pipeline, jobs: list[Job], options: Options, recognizer: Recognizer | None = None) -> int:
    """Speak each video and print the files written, one a line, on stdout.

    Args:
        pipeline: Loaded once for all.
        jobs: The videos.
        options: What to do with each.
        recognizer: Reads the speech, if text is asked for.

    Returns:
        How many videos failed.

    Raises:
        StorageError: Nothing more can be written.
    """
    return write_each(jobs, lambda job: _speak(pipeline, job, options, recognizer))


def write_each(jobs: list[Job], write: Callable[[Job], Iterable[Path]]) -> int:
    """Print the files that `write` makes of each video; returns how many videos failed."""
    failures = 0
    for job in jobs:
        try:
            with guard(job.video):
                for path in write(job):
                    print(path)  # noqa: T201
        except LipSoundError as error:
            if len(jobs) == 1:
                raise
            show_error(error)
            failures += 1
    return failures


def check_formats(formats: tuple[str, ...], known: Collection[str]) -> None:
    """Refuse formats that are not known.

    Raises:
        ConfigError: One is not.
    """
    unknown = set(formats) - set(known)
    if unknown:
        raise ConfigError(f"unknown format {min(unknown)!r}", f"some of {','.join(known)}")


def check_job(job: Job, formats: tuple[str, ...], force: bool) -> None:
    """Refuse to overwrite before an hour of work, not after it.

    Raises:
        StorageError: A target exists.
    """
    check_targets([job.target.with_name(f"{job.target.name}.{suffix}") for suffix in formats], job.video, force)


def list_faces(pipeline: Pipeline, jobs: list[Job]) -> int:
    """Print the face tracks of each video on stdout; returns how many videos failed."""
    failures = 0
    for job in jobs:
        try:
            with guard(job.video):
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


def _speak(pipeline: Pipeline, job: Job, options: Options, recognizer: Recognizer | None) -> Iterator[Path]:
    if options.face != "all":
        check_job(job, options.formats, options.force)
    with _progress() as progress:
        bar = progress.add_task(job.video.name, total=1.0, stage="")
        voices = pipeline.speak_each(
            job.video, options.face, lambda stage, share: progress.update(bar, completed=share, stage=stage)
        )
        for number, speech in enumerate(voices, 1):
            name = job.target.name + (f"-face{number}" if options.face == "all" else "")
            _warn(speech)
            if recognizer:
                progress.update(bar, stage="reading")
                speech = speech.read(recognizer)
                warn_of_note(job.video, speech.transcript)
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


def warn_of_note(video: Path, transcript: Transcript | None) -> None:
    """Tell why there is no text, or less than was heard."""
    if transcript and transcript.note:
        warn(f"{video}: {transcript.note}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
