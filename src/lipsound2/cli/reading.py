"""`lipsound2 read`."""

from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import (
    Beam,
    DetectorFile,
    DetectorName,
    DetectorOption,
    Device,
    Force,
    Output,
    RecognizerName,
    VocoderName,
    exit_with,
    load_recognizer,
    make_detector,
)


def read(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or folders of videos.", show_default=False)],
    output: Output = Path("out"),
    pack: Annotated[str, typer.Option(help="Name of a pack, or the folder of a pack or a run.")] = "grid-s1",
    recognizer: RecognizerName = "jasper",
    beam: Beam = 0,
    formats: Annotated[str, typer.Option("--formats", "-f", help="What to write, of txt,srt,vtt,json.")] = "txt",
    sound: Annotated[bool, typer.Option("--sound", help="Read the video's own sound, not its lips.")] = False,
    face: Annotated[str, typer.Option(help="Whose lips: largest, left, right, all or a number.")] = "largest",
    vocoder: VocoderName = None,
    device: Device = "auto",
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    force: Force = False,
) -> None:
    """Turn silent videos of a talking face into text and subtitles."""
    from lipsound2 import pipeline, reading, speaking

    wanted = tuple(formats.split(","))
    speaking.check_formats(wanted, reading.FORMATS)
    jobs = speaking.find_jobs(inputs, output)
    reader = load_recognizer(recognizer, pack, device, beam)
    if sound:
        failures = reading.read_sound(reader, jobs, wanted, force)
    else:
        eyes = make_detector(detector, detector_file)
        loaded = pipeline.load(pack, vocoder, None if device == "auto" else device, eyes)
        failures = speaking.speak_all(loaded, jobs, speaking.Options(face, wanted, force), reader)
    exit_with(failures, len(jobs), "videos")
