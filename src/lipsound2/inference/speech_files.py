"""Videos and folders of videos -> files of speech and text; one bad video does not stop the rest."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from lipsound2 import media
from lipsound2.errors import ConfigError
from lipsound2.faces import Tracking
from lipsound2.inference.batch import Tally, show_file, work_through
from lipsound2.inference.jobs import Found, Job
from lipsound2.inference.pipeline import TOGETHER, Pipeline
from lipsound2.inference.results import CONTENT, Results, Settings, digest
from lipsound2.inference.speech import FORMATS, Speech, facts
from lipsound2.inference.stretches import Reader, Stretch, retimed
from lipsound2.inference.summary import show_words, told
from lipsound2.recognizer.base import Recognizer
from lipsound2.runtime.terminal import console, description_column, detail, manner, result, warn
from lipsound2.text.alphabet import Transcript
from lipsound2.text.subtitles import WRITERS

ALL = "all"
"""The choice of faces that gives each a voice of its own."""


class Tools(NamedTuple):
    """What speaking needs, loaded once: the recogniser reads the speech, if text is asked for."""

    pipeline: Pipeline
    recognizer: Recognizer | None = None


@dataclass(frozen=True)
class Options:
    """What is done with each video.

    Attributes:
        face: As in `Pipeline.speak_each`.
        formats: Some of `speech.FORMATS`, and of `subtitles.WRITERS`, for which speech is read.
        force: Whether to make anew what is there.
        excerpt: What is used of each file.
        table: Where to write what is told of all videos.
        spoken_with: What else decides how speech sounds, by name.
        read_with: What decides which words are read, by name.
        files_clock: Whether times are those of the file, not of the excerpt: where no new video is written.
    """

    face: str = "largest"
    formats: tuple[str, ...] = FORMATS
    force: bool = False
    excerpt: media.Excerpt = media.WHOLE
    table: Path | None = None
    spoken_with: Settings = field(default_factory=dict)
    read_with: Settings = field(default_factory=dict)
    files_clock: bool = False

    def __post_init__(self) -> None:
        check_formats(self.formats, (*FORMATS, *WRITERS))
        check_face(self.face)

    @property
    def text(self) -> bool:
        """Return whether the speech is read."""
        return not WRITERS.keys().isdisjoint(self.formats)

    def reads(self, format: str) -> bool:  # noqa: A002
        """Return whether a format holds words."""
        return format in WRITERS or (format == "mp4" and self.text)

    def wanted(self, content: str, voice: int | None = None) -> dict[str, Settings]:
        """Return what the files of a video are made with, by ending."""
        start = "" if voice is None else f"-face{voice}"
        spoken = {CONTENT: content, "face": self.face} | dict(self.spoken_with) | self.excerpt.settings()
        return {
            f"{start}.{each}": spoken | dict(self.read_with) if self.reads(each) else spoken for each in self.formats
        }


def speak_all(found: Found, results: Results, options: Options, load: Callable[[], Tools]) -> Tally:
    """Speak each video and print the files written, one a line, on stdout.

    Args:
        found: The videos.
        results: Where results go.
        options: What to do with each.
        load: Loads what is needed; called only if there is something to do.
    """
    results.sweep(job.name for job in found.jobs)
    speaker = _Speaker(results, options)
    return work_through(found, speaker.plan, load, speaker.speak, speaker.outputs, speaker.known, options.table)


class _Speaker:
    """Speaks a video as far as its results are not there already."""

    def __init__(self, results: Results, options: Options) -> None:
        self.results = results
        self.options = options

    def plan(self, job: Job) -> str | None:
        """Return the digest of a video of which something is missing."""
        content = digest(job.video)
        record = self.results.known(job.name)
        if self.options.face == ALL and (record.voices is None or self.options.force):
            return content
        missing = self.results.missing(record, job.video, self._wanted(content, record.voices), self.options.force)
        return content if missing else None

    def outputs(self, job: Job) -> list[Path]:
        """List the results of a video of which nothing is missing."""
        wanted = self._wanted("", self.results.known(job.name).voices)
        return [self.results.path(job.name, ending) for ending in wanted]

    def known(self, job: Job) -> Settings:
        """Return what the table says of a video of which nothing is missing."""
        return self.results.known(job.name).told

    def speak(self, tools: Tools, job: Job, content: str, title: str) -> dict[str, Any]:
        """Write what is missing and return the facts."""
        stages = _Stages()
        voices: list[dict[str, Any]] = []
        reader = Reader(tools.recognizer, partial(self._show, job)) if tools.recognizer else None
        with progress() as bars:
            bar = bars.add_task(title, total=1.0, stage="")

            def report(stage: str, share: float | None) -> None:
                stages.enter(stage)
                bars.update(bar, completed=share, stage=stage)

            def heard(stretch: Stretch, wave: media.Samples, sample_rate: int) -> None:
                if reader:
                    report("reading", None)
                    reader(stretch, wave, sample_rate)

            spoken = tools.pipeline.speak_each(job.video, self.options.face, report, self.options.excerpt, heard)
            for number, speech in enumerate(spoken, 1):
                voice = number if self.options.face == ALL else None
                read = replace(speech, transcript=reader.take()) if reader else speech
                voices.append(self._voice(job, read, self.options.wanted(content, voice), report))
        stages.enter("")
        detail(f"{job.video}: {stages}")
        if self.options.face == ALL:
            self.results.set_voices(job.name, len(voices))
            return {"outputs": [path for each in voices for path in each["outputs"]], "voices": voices}
        return voices[0]

    def _show(self, job: Job, heard: Transcript) -> None:
        """Print words on the clock on which they are written."""
        if self.options.files_clock and not self.options.excerpt.whole:
            rate = media.probe(job.video, self.options.excerpt.track).fps
            heard = retimed(heard, partial(self.options.excerpt.file_time, rate=rate))
        show_words(heard)

    def _voice(
        self, job: Job, speech: Speech, wanted: dict[str, Settings], report: Callable[[str, float | None], None]
    ) -> dict[str, Any]:
        todo = self.results.missing(self.results.known(job.name), job.video, wanted, self.options.force)
        if self.options.files_clock:
            speech = speech.on_the_files_clock()
        found = facts(speech)
        for line in [*found["notes"], *([found["note"]] if found.get("note") else [])]:
            warn(f"{job.video}: {line}")
        report("writing", 1.0)
        self.results.begin(job.name, todo)
        for ending in todo:
            path = self.results.path(job.name, ending)
            speech.save(path.parent, path.name.removesuffix(f".{_format(ending)}"), (_format(ending),), force=True)
            show_file(path)
        self.results.finish(job.name, {ending: wanted[ending] for ending in todo}, told(found))
        return found | {"outputs": [str(self.results.path(job.name, ending)) for ending in wanted]}

    def _wanted(self, content: str, voices: int | None) -> dict[str, Settings]:
        if self.options.face != ALL:
            return self.options.wanted(content)
        numbers = range(1, (voices or 0) + 1)
        return {ending: made for n in numbers for ending, made in self.options.wanted(content, n).items()}


class _Stages:
    """How long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.stage, self.since = "", 0.0

    def enter(self, stage: str) -> None:
        if stage == self.stage:
            return
        now = time.monotonic()
        if self.stage:
            self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self.since
        self.stage, self.since = stage, now

    def __str__(self) -> str:
        return ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items())


def list_faces(found: Found, load: Callable[[], Tools], excerpt: media.Excerpt = media.WHOLE) -> Tally:
    """Print the face tracks of each video on stdout."""

    def work(tools: Tools, job: Job, _: str, __: str) -> dict[str, Any]:
        fps = tools.pipeline.model.config.video.fps
        tracking = tools.pipeline.track(job.video, excerpt=excerpt)
        if not manner().json:
            result(f"{job.video}\n{describe(tracking, fps)}", {})
        return {"faces": [_track(tracking, number, fps) for number in range(len(tracking.tracks))]}

    return work_through(found, lambda _: "", load, work)


def describe(tracking: Tracking, fps: int) -> str:
    """List of each face track when and where it is seen, one a line."""
    tracks = (_track(tracking, number, fps) for number in range(len(tracking.tracks)))
    return (
        "\n".join(
            "  face {face}: {start:.2f}-{stop:.2f} s, at ({x:.0f}, {y:.0f}), {size:.0f} pixels".format(**track)
            for track in tracks
        )
        or "  no face"
    )


def _track(tracking: Tracking, number: int, fps: int) -> dict[str, int | float]:
    track = tracking.tracks[number]
    place = {"x": round(float(track.center[0]), 1), "y": round(float(track.center[1]), 1)}
    seen = {"start": round(track.start / fps, 3), "stop": round(track.stop / fps, 3)}
    return {"face": number + 1} | seen | place | {"size": round(float(track.area) ** 0.5, 1)}


def check_formats(formats: tuple[str, ...], known: Collection[str]) -> None:
    """Refuse formats that are not known.

    Raises:
        ConfigError: One is not.
    """
    unknown = set(formats) - set(known)
    if unknown:
        raise ConfigError(f"unknown format {min(unknown)!r}", f"some of {','.join(known)}")


def check_face(face: str) -> None:
    """Refuse a choice of faces before any work.

    Raises:
        ConfigError: There is none of that name.
    """
    if face not in ("largest", "left", "right", ALL, TOGETHER) and not (face.isdecimal() and int(face) > 0):
        raise ConfigError(f"unknown face {face!r}", "one of largest, left, right, all, together or a number from 1")


def progress() -> Progress:
    """Return the bar of one video."""
    return Progress(
        description_column(),
        BarColumn(20),
        TextColumn("{task.fields[stage]}", table_column=Column(no_wrap=True, min_width=18)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        console=console,
        transient=True,
        disable=manner().quiet or not console.is_terminal,
    )


def _format(ending: str) -> str:
    return ending.rsplit(".", 1)[1]
