"""The sound of videos -> files of text; one bad video does not stop the rest.

To read lips is to speak and then to read what was said, which is what `speaking` does.
"""

from collections.abc import Iterator
from pathlib import Path

from lipsound2 import media
from lipsound2.atomic import write_text
from lipsound2.errors import MediaError
from lipsound2.recognizer.recognizer import Recognizer
from lipsound2.speaking import Job, check_formats, check_job, warn_of_note, write_each
from lipsound2.subtitles import WRITERS

FORMATS = tuple(WRITERS)
"""What a transcript can be written as."""


def read_sound(recognizer: Recognizer, jobs: list[Job], formats: tuple[str, ...], force: bool = False) -> int:
    """Read the sound track of each video and print the files written, one a line, on stdout.

    Args:
        recognizer: Loaded once for all.
        jobs: The videos.
        formats: Some of `FORMATS`.
        force: Whether to overwrite.

    Returns:
        How many videos failed.

    Raises:
        StorageError: Nothing more can be written.
    """
    check_formats(formats, FORMATS)
    return write_each(jobs, lambda job: _read(recognizer, job, formats, force))


def _read(recognizer: Recognizer, job: Job, formats: tuple[str, ...], force: bool) -> Iterator[Path]:
    check_job(job, formats, force)
    wave = media.read_audio(job.video, recognizer.sample_rate)
    if wave is None:
        raise MediaError(f"{job.video} has no sound", "without --sound its lips are read")
    transcript = recognizer.transcribe(wave)
    warn_of_note(job.video, transcript)
    for suffix in formats:
        path = job.target.with_name(f"{job.target.name}.{suffix}")
        write_text(path, WRITERS[suffix](transcript))
        yield path
