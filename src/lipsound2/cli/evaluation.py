"""`lipsound2 evaluate`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import (
    Corpus,
    DetectorFile,
    DetectorName,
    DetectorOption,
    Device,
    Force,
    Output,
    exit_with,
    yunet_file,
)
from lipsound2.terminal import console, counting


def evaluate(
    data: Annotated[Path, typer.Option(help="What `prepare` wrote, or a folder of videos.", show_default=False)],
    output: Output = Path("report"),
    pack: Annotated[str, typer.Option(help="Name of a pack, or the folder of a pack or a run.")] = "grid-s1",
    protocol: Annotated[
        str | None, typer.Option(help="Speakers and splits by name, such as s1 or grid-unseen; see docs/evaluation.md.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    speakers: Annotated[list[str] | None, typer.Option("--speaker", help="Only this speaker; repeatable.")] = None,
    clips: Annotated[int, typer.Option(help="Only so many clips, spread evenly; 0 takes all.")] = 0,
    corpus: Annotated[
        Corpus | None, typer.Option(help="Layout of a folder of videos; the protocol's, else folder.")
    ] = None,
    vocoder: Annotated[str | None, typer.Option(help="Turns mel into sound; by default the pack's choice.")] = None,
    recognizers: Annotated[
        list[str] | None,
        typer.Option(
            "--recognizer",
            help="That listens: jasper, whisper:SIZE, pocketsphinx:grid, a folder; auto takes those at hand.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one a core.")] = 0,
    device: Device = "auto",
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    force: Force = False,
) -> None:
    """Measure a pack: speak silent clips and compare with their own sound. A second call goes on."""
    from functools import partial

    from rich.console import Console
    from rich.markdown import Markdown

    from lipsound2 import faces
    from lipsound2.evaluation import evaluate as evaluation
    from lipsound2.evaluation.material import Source
    from lipsound2.evaluation.protocols import find_protocol
    from lipsound2.evaluation.tables import markdown

    chosen_protocol = find_protocol(protocol) if protocol else None
    layout = corpus.value if corpus else chosen_protocol.corpus if chosen_protocol else "folder"
    who = tuple(speakers or (chosen_protocol.speakers if chosen_protocol else ()))
    source = Source(data, layout, split, who, clips, protocol)
    chosen = None if device == "auto" else device
    settings = evaluation.Settings(pack, source, vocoder, tuple(recognizers or ("auto",)), chosen)
    make = partial(faces.YuNetDetector, yunet_file(detector_file)) if detector == "yunet" else faces.MtcnnDetector
    with counting("evaluating") as update:
        summary = evaluation.evaluate(settings, output, workers, force, make, update)
    if sys.stdout.isatty():
        Console().print(Markdown(markdown(summary)))
    else:
        print(markdown(summary), end="")  # noqa: T201
    console.print(f"the report is in {output}")
    exit_with(summary.failed, summary.clips, "clips")
