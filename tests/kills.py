"""A folder of 40 odd files, 15 of them broken: `speak` killed ten times on the way ends as one that was left alone.

    python tests/kills.py [--kills 10] [--seed 0]

Takes minutes; `make test-kills` runs it, `make test` does something smaller of the kind.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from hashlib import sha256
from itertools import cycle
from pathlib import Path

import av

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*[0-9][a-z].mp4"))
CODECS = {
    "plain.mp4": ("libx264", "yuv420p"),
    "[b]bold[/b].mp4": ("libx264", "yuv420p"),
    "12:30.mp4": ("libx264", "yuv420p"),
    "-dash.mp4": ("libx264", "yuv420p"),
    "日本 語.mkv": ("libx264", "yuv420p"),
    "b frames.avi": ("libx264", "yuv420p"),
    "part.4.avi": ("mpeg4", "yuv420p"),
    "old.mpg": ("mpeg1video", "yuv420p"),
    "vob.vob": ("mpeg2video", "yuv420p"),
    "stream.ts": ("libx264", "yuv420p"),
    "stream2.ts": ("mpeg2video", "yuv420p"),
    "raw.m2ts": ("libx264", "yuv420p"),
    "web.webm": ("libvpx", "yuv420p"),
    "web9.webm": ("libvpx-vp9", "yuv420p"),
    "new.mp4": ("libsvtav1", "yuv420p"),
    "apple.mov": ("mjpeg", "yuvj420p"),
    "hevc.mp4": ("libx265", "yuv420p"),
    "full chroma.mkv": ("libx264", "yuv444p"),
    "deep.mkv": ("libx265", "yuv420p10le"),
    "same.mp4": ("libx264", "yuv420p"),
    "same.mkv": ("libx264", "yuv420p"),
    "SAME.mov": ("libx264", "yuv420p"),
    "folder/same.mp4": ("libx264", "yuv420p"),
    "folder/deeper folder/flash.flv": ("flv", "yuv420p"),
    "x" * 240 + ".mp4": ("libx264", "yuv420p"),
}


def main() -> None:
    """Make the folder, run once undisturbed and once with kills, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder / "odd files", options.seed)
        start = time.monotonic()
        status = speak(folder / "odd files", folder / "alone").wait()
        taken = time.monotonic() - start
        print(f"undisturbed: {taken:.0f} s, status {status}, {len(contents(folder / 'alone'))} files written")
        chance = random.Random(options.seed)
        for number in range(options.kills):
            process = speak(folder / "odd files", folder / "killed")
            time.sleep(4 + chance.random() * taken / (options.kills + 1))
            process.send_signal(signal.SIGKILL)
            print(f"kill {number + 1}: status {process.wait()}, {len(contents(folder / 'killed'))} files")
        last = speak(folder / "odd files", folder / "killed").wait()
        same = contents(folder / "alone") == contents(folder / "killed") and status == last
        print(f"killed: status {last}, {'the same' if same else 'NOT the same'} files")
        for path in sorted(contents(folder / "alone").items() ^ contents(folder / "killed").items()):
            print("differs:", *path)
    sys.exit(not same)


def speak(source: Path, output: Path) -> "subprocess.Popen[bytes]":
    """Start the command."""
    command = [sys.executable, "-m", "lipsound2", "speak", source, "-o", output, "--text"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def contents(folder: Path) -> dict[str, str]:
    """Return the checksum of every file below a folder."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def make_folder(folder: Path, seed: int) -> None:
    """Write 25 files that can be spoken and 15 that cannot."""
    for source, (name, (codec, pixels)) in zip(cycle(EXAMPLES), CODECS.items(), strict=False):
        transcode(source, folder / name, codec, pixels)
    chance = random.Random(seed)
    whole = EXAMPLES[0].read_bytes()
    broken = {
        "empty.mp4": b"",
        "text.mp4": b"not a video " * 500,
        "page.mp4": b"<!DOCTYPE html><html><body>404</body></html>",
        "pointer.mp4": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        "head only.mp4": whole[:400],
        "no head.mp4": whole[len(whole) // 2 :],
        "noise.mkv": chance.randbytes(20_000),
        "zeros.avi": bytes(20_000),
        "playlist.mp4": b"ffconcat version 1.0\nfile /etc/hostname\n",
        "sound.wav.mp4": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(36),
        "half.mov": whole[: len(whole) // 3],
        "gif.mp4": b"GIF89a" + bytes(40),
        "zip.mp4": b"PK\x03\x04" + bytes(200),
        "caf\udce9.mp4": b"bytes in the name",
        "broken box.mp4": whole[:32] + b"\xff" * 64 + whole[96:400],
    }
    for name, data in broken.items():
        (folder / name).write_bytes(data)


def transcode(source: Path, target: Path, codec: str, pixels: str) -> None:
    """Write a video's pictures with another codec into another container."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / f"video{target.suffix}"
        with av.open(str(source)) as reader, av.open(str(plain), "w") as writer:
            stream = writer.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 256, 256, pixels
            for number, frame in enumerate(reader.decode(video=0)):
                picture = frame.reformat(format=pixels)
                picture.pts, picture.time_base = number, Fraction(1, 25)
                writer.mux(stream.encode(picture))
            writer.mux(stream.encode(None))
        shutil.copy(plain, target)


if __name__ == "__main__":
    main()
