"""`lipsound2 adapt`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import (
    DetectorFile,
    DetectorName,
    DetectorOption,
    Device,
    PackName,
    Several,
    Workers,
    detector_maker,
)
from lipsound2.runtime.terminal import counting, result, say


def adapt(
    videos: Annotated[Path, typer.Argument(help="Folder of videos of one person, with sound.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, help="Folder of the new pack.", show_default=False)
    ],
    pack: PackName = "grid-s1",
    consent: Annotated[
        bool, typer.Option("--i-have-consent", help="The person agreed, or is you; asked for at a terminal.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is there, what would be done and how long it takes.")
    ] = False,
    several: Annotated[
        Several, typer.Option(help="While several faces of similar size are seen: use none, the largest or each.")
    ] = Several.leave,
    person: Annotated[
        str | None,
        typer.Option(help="Name of a video of the person, where several are heard.", show_default="who speaks most"),
    ] = None,
    transcribe: Annotated[
        bool, typer.Option("--transcribe", help="Let Whisper write down what is said; needs the extra whisper.")
    ] = False,
    workers: Workers = 0,
    device: Device = "auto",
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
) -> None:
    """Make a pack with one person's voice from ordinary videos of them. A second call resumes."""
    from lipsound2.adapt.adapt import Request
    from lipsound2.adapt.adapt import adapt as run
    from lipsound2.adapt.card import scores
    from lipsound2.errors import DataError

    if not videos.is_dir():
        raise DataError(f"no such folder: {videos}", "give a folder of videos of one person")
    make = detector_maker(detector, detector_file)
    request = Request(videos, output, pack, several.value, person, transcribe)
    if not dry_run:
        _ask(request.work, consent)
    made = run(request, counting, dry_run, device, workers, make)
    told = {"speech": round(made.found.speech, 1), "clips": len(made.found.kept), "training": round(made.seconds)}
    if made.pack is None or made.before is None or made.after is None:
        result("", told)
        say("nothing was trained; the same command without --dry-run goes on")
        return
    figures = {"before": scores(made.before), "after": scores(made.after)}
    result(f"{made.pack}: lipsound2 speak VIDEO --pack {made.pack}", {"output": str(made.pack)} | told | figures)
    say(f"card: {made.pack / 'README.md'}; reports: {request.work / 'after'}; {request.work} may be deleted")


def _ask(work: Path, given: bool) -> None:
    """Have it declared once that the person agreed; at a terminal it is asked for."""
    from lipsound2.adapt.consent import QUESTION, declare, missing, read_consent

    if read_consent(work) is not None:
        return
    if given:
        declare(work, "by --i-have-consent")
    elif sys.stdin.isatty() and typer.confirm(QUESTION, err=True):
        declare(work, "at a terminal")
    else:
        raise missing()
