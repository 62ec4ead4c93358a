"""`lipsound2 evaluate`, `compare` and `plot`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import (
    DetectorFile,
    DetectorName,
    DetectorOption,
    Device,
    Force,
    Output,
    PackName,
    VocoderName,
    Workers,
    detector_maker,
    end_with,
    exit_with,
    load_speaker,
    refuse_idle,
)
from lipsound2.runtime.terminal import counting, manner, result, say


def evaluate(
    data: Annotated[Path, typer.Option(help="What `prepare` wrote, or a folder of videos.", show_default=False)],
    output: Output = Path("report"),
    pack: PackName = "grid-s1",
    protocol: Annotated[
        str | None, typer.Option(help="Speakers and splits by name, such as s1 or grid-unseen; see docs/evaluation.md.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    speakers: Annotated[list[str] | None, typer.Option("--speaker", help="Only this speaker; repeatable.")] = None,
    clips: Annotated[int, typer.Option(min=0, help="Only so many clips, spread evenly; 0 takes all.")] = 0,
    include_trained: Annotated[
        bool, typer.Option("--include-trained", help="Keep clips that the pack was trained on, with a warning.")
    ] = False,
    corpus: Annotated[
        str | None, typer.Option(help="Layout of a folder of videos; the protocol's, else folder.")
    ] = None,
    vocoder: VocoderName = None,
    recognizers: Annotated[
        list[str] | None,
        typer.Option(
            "--recognizer",
            help="For WER: jasper, whisper:SIZE, pocketsphinx:grid, a folder; auto takes those installed.",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Only this one, such as stoi; repeatable. All by default.")
    ] = None,
    workers: Workers = 0,
    device: Device = "auto",
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    force: Force = False,
) -> None:
    """Evaluate a pack: reconstruct silent clips and compare with their own audio. A second call resumes."""
    from lipsound2.corpora.protocols import find_protocol
    from lipsound2.evaluation.bench import Settings
    from lipsound2.evaluation.evaluate import evaluate as run
    from lipsound2.evaluation.material import Source
    from lipsound2.evaluation.tables import markdown
    from lipsound2.runtime.devices import find_device

    chosen_protocol = find_protocol(protocol) if protocol else None
    layout = corpus if corpus else chosen_protocol.corpus if chosen_protocol else "folder"
    who = tuple(speakers or (chosen_protocol.speakers if chosen_protocol else ()))
    source = Source(data, layout, split, who, clips, protocol, include_trained)
    chosen = find_device(device)
    settings = Settings(pack, source, vocoder, tuple(recognizers or ("auto",)), tuple(metrics or ()), chosen)
    make = detector_maker(detector, detector_file)
    with counting("evaluating") as update:
        summary = run(settings, output, workers, force, make, update)
    if manner().json:
        result("", {"output": str(output), "clips": summary.clips, "failed": summary.failed})
    else:
        _print(markdown(summary))
    say(f"the report is in {output}")
    exit_with(summary.failed, summary.clips, "clips")


def compare(
    first: Annotated[Path, typer.Argument(help="A report's folder: A.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another report on the same clips: B.", show_default=False)],
    row: Annotated[str, typer.Option(help="Row to compare: pack, floor, ceiling-griffin-lim, ...")] = "pack",
) -> None:
    """Compare two reports on the same clips: paired differences with confidence intervals."""
    from lipsound2.evaluation import compare as comparison

    found = comparison.compare(first, second, row)
    if manner().json:
        for each in found:
            result("", asdict(each) | {"metric": each.metric.name})
        return
    _print(comparison.markdown(found, comparison.titles(first, second, row)))


def plot(
    sources: Annotated[list[Path], typer.Argument(help="Videos, and folders of training runs.", show_default=False)],
    output: Output = Path("plots"),
    pack: PackName = "grid-s1",
    face: Annotated[str, typer.Option(help="Whose lips: largest, left, right or a number.")] = "largest",
    vocoder: VocoderName = None,
    device: Device = "auto",
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    force: Force = False,
) -> None:
    """Draw mels, alignment and waves of videos, and the training curves of runs."""
    from lipsound2.errors import LipSoundError, guard
    from lipsound2.inference import drawing
    from lipsound2.inference.batch import Tally, show_file
    from lipsound2.packs.pack import DEFAULT_PACK

    tally = Tally()
    runs = [source for source in sources if drawing.is_run(source)]
    loaded = None
    if len(runs) < len(sources):
        loaded = load_speaker(pack, vocoder, device, detector, detector_file)
    else:
        files = {"detector": detector != DetectorName.mtcnn, "detector_file": detector_file is not None}
        named = {"pack": pack != DEFAULT_PACK, "face": face != "largest", "vocoder": vocoder is not None}
        refuse_idle("for training runs", **named, **files)
    for source in sources:
        try:
            with guard(source):
                if loaded is None or source in runs:
                    paths = drawing.draw_run(source, output, force)
                else:
                    paths = drawing.draw_video(loaded, source, face, output, force)
        except LipSoundError as error:
            tally.fail(source, error)
            continue
        for path in paths:
            show_file(path)
        result("", {"source": str(source), "status": "done", "outputs": [str(path) for path in paths]})
        tally.done += 1
    end_with(tally)


def _print(text: str) -> None:
    """Print Markdown, laid out if someone is looking."""
    from rich.console import Console
    from rich.markdown import Markdown

    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        print(text, end="")  # noqa: T201
