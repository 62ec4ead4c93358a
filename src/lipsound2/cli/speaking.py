"""`lipsound2 speak`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lipsound2.cli.options import (
    Backend,
    BackendName,
    Beam,
    DetectorFile,
    DetectorName,
    DetectorOption,
    Device,
    End,
    Face,
    FilmedAt,
    Force,
    OutputFile,
    PackName,
    RecognizerName,
    Start,
    TableFile,
    Threads,
    Track,
    VocoderName,
    end_with,
    load_recognizer,
    load_speaker,
    refuse_idle,
    use_threads,
)

DEFAULT_FORMATS = "wav,mp4,png"


def speak(
    inputs: Annotated[
        list[Path], typer.Argument(help="Videos, or folders of videos.", show_default=False, readable=False)
    ],
    output: OutputFile = Path("out"),
    pack: PackName = "grid-s1",
    face: Face = "largest",
    list_faces: Annotated[bool, typer.Option("--list-faces", help="Only list the faces of each video.")] = False,
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            "-f",
            help="What to write, of wav,mp4,png,txt,srt,vtt,json.",
            show_default=f"{DEFAULT_FORMATS}, or the one that -o names",
        ),
    ] = None,
    track: Track = None,
    start: Start = 0.0,
    end: End = None,
    fps: FilmedAt = None,
    text: Annotated[
        bool, typer.Option("--text", help="Write the words too: txt, srt, and a track of the mp4.")
    ] = False,
    recognizer: RecognizerName = "jasper",
    beam: Beam = None,
    voice: Annotated[
        str | None,
        typer.Option(
            help="Voice of a pack that has several: a name, or a file with a few seconds of the voice wanted.",
            show_default="that of the nearest face",
        ),
    ] = None,
    vocoder: VocoderName = None,
    device: Device = "auto",
    backend: BackendName = Backend.torch,
    threads: Threads = None,
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    table: TableFile = None,
    force: Force = False,
) -> None:
    """Reconstruct speech from silent videos of a talking face: audio, video with audio, a figure."""
    use_threads(threads)
    from lipsound2.cli import made_with
    from lipsound2.inference import jobs, speech_files
    from lipsound2.inference.results import Results
    from lipsound2.media import Excerpt
    from lipsound2.runtime.devices import find_device

    place = jobs.read_output(output, inputs, (*speech_files.FORMATS, *speech_files.WRITERS), formats)
    asked = (formats or place.format or DEFAULT_FORMATS).lower().split(",")
    wanted = tuple(dict.fromkeys([*asked, *(["txt", "srt"] if text else [])]))
    excerpt = Excerpt(track, start, end, fps)
    options = speech_files.Options(face, wanted, force, excerpt, table)
    if detector != DetectorName.yunet:
        refuse_idle("without --detector yunet", detector_file=detector_file is not None)
    if list_faces:
        given = {"formats": formats is not None, "text": text, "vocoder": vocoder is not None, "force": force}
        given["voice"] = voice is not None
        given["table"] = table is not None
        refuse_idle("with --list-faces", face=face != "largest", **given)
    if not options.text:
        refuse_idle("without --text", recognizer=recognizer != "jasper", beam=beam is not None)
    if backend == Backend.onnx:
        refuse_idle("with --backend onnx, which runs on the CPU", device=device not in ("auto", "cpu"))
    find_device(device)
    results = Results(place.folder)

    def load() -> speech_files.Tools:
        speaker = load_speaker(pack, vocoder, device, detector, detector_file, backend, voice)
        reads = options.text and not list_faces
        return speech_files.Tools(speaker, load_recognizer(recognizer, pack, device, beam, backend) if reads else None)

    spoken_with = made_with.speech(pack, vocoder, detector, backend, voice)
    if list_faces:
        end_with(speech_files.list_faces(jobs.find_jobs(inputs, results, claim=False), load, excerpt))
        return
    read_with = made_with.words(recognizer, pack, beam) if options.text else {}
    options = replace(options, spoken_with=spoken_with, read_with=read_with)
    end_with(speech_files.speak_all(jobs.find_jobs(inputs, results, name=place.name), results, options, load))
