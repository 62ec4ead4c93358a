"""`lipsound2 live`."""

from typing import Annotated

import typer

from lipsound2.cli.options import (
    Beam,
    DetectorFile,
    DetectorName,
    DetectorOption,
    Device,
    Force,
    PackName,
    RecognizerName,
    load_recognizer,
    load_speaker,
    refuse_idle,
    use_threads,
)
from lipsound2.runtime.terminal import result, say, warn

NOTABLE = 0.05
"""Share of the frames that may be dropped without a warning."""


def live(
    source: Annotated[str, typer.Argument(help="Number of a camera, or a video that plays as one.")] = "0",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="WAV file that grows, or - for samples of 16 bits on standard output.",
            show_default="the loudspeaker",
        ),
    ] = None,
    pack: PackName = "grid-s1",
    captions: Annotated[bool, typer.Option("--captions/--no-captions", help="Read what is spoken.")] = True,
    recognizer: RecognizerName = "jasper",
    beam: Beam = None,
    hop: Annotated[int, typer.Option(min=1, max=25, help="Frames worked on at once, at least.")] = 4,
    ahead: Annotated[int, typer.Option(min=1, max=50, help="Frames to wait for; more is better and later.")] = 9,
    limit: Annotated[
        float, typer.Option(min=0.1, max=10, help="Seconds of delay beyond which frames are skipped.")
    ] = 1.0,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Do not play a video in its time, but as fast as can be.")
    ] = False,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads that read lips.")] = 1,
    detector: DetectorOption = DetectorName.mtcnn,
    detector_file: DetectorFile = None,
    force: Force = False,
) -> None:
    """Speak while somebody moves the lips before a camera, and show the words as captions."""
    # Hops are too small to be shared out, and faces and captions are found meanwhile.
    use_threads(threads)
    if not captions:
        refuse_idle("with --no-captions", recognizer=recognizer != "jasper", beam=beam is not None)
    if source.isdecimal():
        refuse_idle("with a camera", at_once=at_once)
    if at_once:
        refuse_idle("with --at-once", limit=limit != 1.0)
    if output in (None, "-"):
        refuse_idle("without a file", force=force)
    from lipsound2.live.camera import Camera, filming
    from lipsound2.live.captions import Captions
    from lipsound2.live.loudspeaker import opened
    from lipsound2.live.session import Pace, Session
    from lipsound2.live.subtitle import Subtitle

    speaker = load_speaker(pack, "griffin-lim", device, detector, detector_file)
    rate = speaker.model.config.audio.sample_rate
    reader = load_recognizer(recognizer, pack, device, beam) if captions else None
    with opened(output, rate, force) as hear, Subtitle(on_stdout=output != "-") as subtitle:
        words = Captions(reader, rate, subtitle.show) if reader else None
        session = Session(speaker, Pace(hop, ahead, limit), hear, words)
        with filming(source, Camera(speaker.model.config.video.fps, patient=at_once)) as camera:
            account = session.run(camera)
    say(f"{account}; {camera.dropped} frames dropped, {camera.repeated} repeated")
    if camera.dropped > NOTABLE * (account.frames + camera.dropped):
        warn(f"this machine is too slow: {camera.dropped} frames were skipped to stay within {limit:g} s of the lips")
    if output is not None and output != "-":
        result(output, {"output": output} | account.facts() | camera.facts())
