"""`lipsound2 read`."""

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

DEFAULT_FORMATS = "txt"


def read(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Videos, or folders of videos; with --sound also audio files.", show_default=False, readable=False
        ),
    ],
    output: OutputFile = Path("out"),
    pack: PackName = "grid-s1",
    recognizer: RecognizerName = "jasper",
    beam: Beam = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            "-f",
            help="What to write, of txt,srt,vtt,json.",
            show_default=f"{DEFAULT_FORMATS}, or the one that -o names",
        ),
    ] = None,
    sound: Annotated[bool, typer.Option("--sound", help="Transcribe the file's own audio, not its lips.")] = False,
    face: Face = "largest",
    track: Track = None,
    start: Start = 0.0,
    end: End = None,
    fps: FilmedAt = None,
    vocoder: VocoderName = None,
    device: Device = "auto",
    backend: BackendName = Backend.torch,
    threads: Threads = None,
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    table: TableFile = None,
    force: Force = False,
) -> None:
    """Read silent videos of a talking face: text and subtitles."""
    use_threads(threads)
    from lipsound2.cli import made_with
    from lipsound2.inference import jobs, speech_files, text_files
    from lipsound2.inference.results import Results
    from lipsound2.media import VIDEO_SUFFIXES, Excerpt
    from lipsound2.runtime.devices import find_device

    place = jobs.read_output(output, inputs, text_files.FORMATS, formats)
    wanted = tuple(dict.fromkeys((formats or place.format or DEFAULT_FORMATS).lower().split(",")))
    speech_files.check_formats(wanted, text_files.FORMATS)
    if sound:
        files = {"detector": detector != DetectorName.mtcnn, "detector_file": detector_file is not None}
        refuse_idle(
            "with --sound",
            face=face != "largest",
            track=track is not None,
            fps=fps is not None,
            vocoder=vocoder is not None,
            **files,
        )
    elif detector != DetectorName.yunet:
        refuse_idle("without --detector yunet", detector_file=detector_file is not None)
    if backend == Backend.onnx:
        refuse_idle("with --backend onnx, which runs on the CPU", device=device not in ("auto", "cpu"))
    find_device(device)
    results = Results(place.folder)
    read_with = made_with.words(recognizer, pack, beam)
    excerpt = Excerpt(track, start, end, fps)
    if sound:
        options = text_files.SoundOptions(wanted, force, read_with, excerpt, table)
        found = jobs.find_jobs(inputs, results, VIDEO_SUFFIXES | jobs.SOUND_SUFFIXES, place.name)
        end_with(
            text_files.read_sound(
                found, results, options, lambda: load_recognizer(recognizer, pack, device, beam, backend)
            )
        )
        return

    def load() -> speech_files.Tools:
        reader = load_recognizer(recognizer, pack, device, beam, backend)
        return speech_files.Tools(load_speaker(pack, vocoder, device, detector, detector_file, backend), reader)

    spoken_with = made_with.speech(pack, vocoder, detector, backend)
    lips = speech_files.Options(face, wanted, force, excerpt, table, spoken_with, read_with, files_clock=True)
    end_with(speech_files.speak_all(jobs.find_jobs(inputs, results, name=place.name), results, lips, load))
