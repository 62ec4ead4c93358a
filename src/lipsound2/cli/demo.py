"""`lipsound2 demo`."""

from pathlib import Path

from lipsound2.cli.options import Output
from lipsound2.runtime.terminal import result


def demo(output: Output = Path("out")) -> None:
    """Speak and read the clip that comes with the package; writes its audio, video, figure and subtitles."""
    import lipsound2
    from lipsound2.doctor import SAID, example
    from lipsound2.inference.recognizers import choose
    from lipsound2.packs import find_pack
    from lipsound2.packs.pack import DEFAULT_PACK

    speech = lipsound2.load().speak(example()).read(choose("jasper", find_pack(DEFAULT_PACK).recognizer))
    paths = [str(path) for path in speech.save(output, "demo", ("wav", "mp4", "png", "txt", "srt"), force=True)]
    read = speech.transcript.text if speech.transcript else ""
    result(
        "\n".join([*paths, f"reference: {SAID}", f"hypothesis: {read}"]), {"outputs": paths, "said": SAID, "read": read}
    )
