"""The audio of videos and of audio files -> text files; a bad file fails alone.

To read lips is to speak and then to read what was said, which is what `speaking` does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lipsound2 import media
from lipsound2.errors import MediaError
from lipsound2.inference.batch import Tally, show_file, work_through
from lipsound2.inference.jobs import Found, Job
from lipsound2.inference.results import CONTENT, Results, Settings, digest
from lipsound2.inference.speech import doubts, words
from lipsound2.inference.speech_files import check_formats
from lipsound2.inference.stretches import retimed
from lipsound2.inference.summary import show_words, told
from lipsound2.recognizer.base import Recognizer
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.terminal import warn
from lipsound2.text.subtitles import WRITERS, to_json

FORMATS = tuple(WRITERS)
"""What a transcript can be written as."""


@dataclass(frozen=True)
class SoundOptions:
    """What is done with each file; as in `speech_files.Options`. Times are always those of the file."""

    formats: tuple[str, ...] = ("txt",)
    force: bool = False
    read_with: Settings = field(default_factory=dict)
    excerpt: media.Excerpt = media.WHOLE
    table: Path | None = None

    def __post_init__(self) -> None:
        check_formats(self.formats, FORMATS)

    def wanted(self, content: str) -> dict[str, Settings]:
        """Return what the files of a video are made with, by ending."""
        made = {CONTENT: content, "sound": True} | dict(self.read_with) | self.excerpt.settings()
        return {f".{each}": made for each in self.formats}


def read_sound(found: Found, results: Results, options: SoundOptions, load: Callable[[], Recognizer]) -> Tally:
    """Read the audio track of each file and print the files written, one a line, on stdout.

    Args:
        found: Videos and audio files.
        results: Where results go.
        options: What to do with each.
        load: Loads the recogniser; called only if there is something to do.
    """
    results.sweep(job.name for job in found.jobs)
    reader = _Reader(results, options)
    return work_through(found, reader.plan, load, reader.read, reader.outputs, reader.known, options.table)


class _Reader:
    """Transcribes files whose results are not there already."""

    def __init__(self, results: Results, options: SoundOptions) -> None:
        self.results = results
        self.options = options

    def plan(self, job: Job) -> dict[str, Settings] | None:
        """Return what is missing and what it will be made with."""
        wanted = self.options.wanted(digest(job.video))
        missing = self.results.missing(self.results.known(job.name), job.video, wanted, self.options.force)
        return {ending: wanted[ending] for ending in missing} or None

    def outputs(self, job: Job) -> list[Path]:
        """List the results of a file of which nothing is missing."""
        return [self.results.path(job.name, ending) for ending in self.options.wanted("")]

    def known(self, job: Job) -> Settings:
        """Return what the table says of a file of which nothing is missing."""
        return self.results.known(job.name).told

    def read(self, recognizer: Recognizer, job: Job, todo: dict[str, Settings], _: str) -> dict[str, Any]:
        """Write what is missing and return the facts."""
        start = self.options.excerpt.start
        wave = media.read_audio(job.video, recognizer.sample_rate, self.options.excerpt)
        if wave is None:
            raise MediaError(f"{job.video} has no audio", "without --sound its lips are read")
        if not len(wave):
            raise MediaError(f"the audio of {job.video} ends before the start at {start:g} s", "give an earlier start")
        transcript = retimed(recognizer.transcribe(wave), start.__add__)
        show_words(transcript)
        notes = doubts(transcript)
        for line in [*notes, *([transcript.note] if transcript.note else [])]:
            warn(f"{job.video}: {line}")
        seconds = round(len(wave) / recognizer.sample_rate, 3)
        found = {"source": str(job.video), "seconds": seconds, "notes": notes} | words(transcript)
        self.results.begin(job.name, todo)
        for ending in todo:
            path = self.results.path(job.name, ending)
            write = WRITERS[ending[1:]]
            write_text(path, to_json(transcript, found) if ending == ".json" else write(transcript))
            show_file(path)
        self.results.finish(job.name, todo, told(found))
        return found | {"outputs": [str(path) for path in self.outputs(job)]}
