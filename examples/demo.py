"""Speak and read silent videos, and compare with the reference text: `python examples/demo.py [VIDEO ...]`."""

import sys
from pathlib import Path

import lipsound2
from lipsound2.errors import LipSoundError
from lipsound2.inference.recognizers import choose
from lipsound2.packs import find_pack
from lipsound2.runtime.terminal import show_error

EXAMPLES = Path(__file__).parent
OUTPUT = Path("out/demo")
PACK = "grid-s1"


def main() -> None:
    """Speak each video, by default the silent ones beside this file; a `.txt` beside one holds the reference text."""
    videos = [Path(name) for name in sys.argv[1:]] or sorted(EXAMPLES.glob("*-silent.mp4"))
    pipeline = lipsound2.load(PACK)
    recognizer = choose("jasper", find_pack(PACK).recognizer)
    for video in videos:
        speech = pipeline.speak(video).read(recognizer)
        files = speech.save(OUTPUT, formats=("wav", "mp4", "png", "txt", "srt"), force=True)
        script = video.with_name(video.stem.removesuffix("-silent") + ".txt")
        print(video)
        print("  reference:  ", script.read_text(encoding="utf-8").strip() if script.exists() else "(not known)")
        print("  hypothesis: ", speech.transcript.text if speech.transcript else "")
        print("  files:", *files)


if __name__ == "__main__":
    try:
        main()
    except LipSoundError as error:
        show_error(error)
        sys.exit(1)
