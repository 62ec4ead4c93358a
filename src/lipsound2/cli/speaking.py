"""`lipsound2 speak`."""

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


def speak(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or folders of videos.", show_default=False)],
    output: Output = Path("out"),
    pack: Annotated[str, typer.Option(help="Name of a pack, or the folder of a pack or a run.")] = "grid-s1",
    face: Annotated[str, typer.Option(help="Whose lips: largest, left, right, all or a number.")] = "largest",
    list_faces: Annotated[bool, typer.Option("--list-faces", help="Only list the faces of each video.")] = False,
    formats: Annotated[str, typer.Option("--formats", "-f", help="What to write, of wav,mp4,png,txt,srt,vtt,json.")] = (
        "wav,mp4,png"
    ),
    text: Annotated[
        bool, typer.Option("--text", help="Write the words too: txt, srt, and a track of the mp4.")
    ] = False,
    recognizer: RecognizerName = "jasper",
    beam: Beam = 0,
    vocoder: VocoderName = None,
    device: Device = "auto",
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    force: Force = False,
) -> None:
    """Turn silent videos of a talking face into speech: sound, the video with it, a picture of both."""
    from lipsound2 import pipeline, speaking

    wanted = dict.fromkeys([*formats.split(","), *(["txt", "srt"] if text else [])])
    options = speaking.Options(face, tuple(wanted), force)
    jobs = speaking.find_jobs(inputs, output)
    loaded = pipeline.load(pack, vocoder, None if device == "auto" else device, make_detector(detector, detector_file))
    if list_faces:
        failures = speaking.list_faces(loaded, jobs)
    else:
        reader = load_recognizer(recognizer, pack, device, beam) if options.text else None
        failures = speaking.speak_all(loaded, jobs, options, reader)
    exit_with(failures, len(jobs), "videos")
