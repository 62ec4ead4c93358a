"""Nothing -> a folder of small whole inputs of every kind, the same bytes every time, from which cases are made."""

import io
import os
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import yaml
from data.nemo import make as nemo
from test_import_waveglow import AUDIO, published_weights
from test_model import make, tiny
from test_nemo import settings, weights
from tones import tiny as tiny_jasper

from lipsound2.config import to_json
from lipsound2.corpora.clip import Clip
from lipsound2.data.recording import make_samples
from lipsound2.data.sample import SampleConfig
from lipsound2.data.shards import INDEX_NAME, to_lines, write_shard
from lipsound2.faces import Face
from lipsound2.packs import PackInfo, write_pack
from lipsound2.recognizer.jasper import Jasper
from lipsound2.recognizer.ngram import train_ngram
from lipsound2.recognizer.transcriber import save_recognizer
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.weights import save_weights
from lipsound2.training.config import TrainConfig
from lipsound2.training.recipes.lip2mel import Lip2MelRecipe
from lipsound2.training.run import make_fabric, run
from lipsound2.vocoder.config import WaveGlowConfig
from lipsound2.vocoder.waveglow import WaveGlow

SIM = Path(__file__).parents[1] / "data" / "sim"
RATE = 48_000
BITEXACT = {"flags": "+bitexact"}
MEDIA: dict[str, tuple[str | None, str | None]] = {
    "h264.mp4": ("libx264", "aac"),
    "fragments.mp4": ("libx264", "aac"),
    "faststart.mp4": ("libx264", "aac"),
    "silent.mp4": ("libx264", None),
    "hevc.mp4": ("libx265", "aac"),
    "vp9.mp4": ("libvpx-vp9", "aac"),
    "h264.mov": ("libx264", "pcm_s16le"),
    "mjpeg.mov": ("mjpeg", "pcm_s16le"),
    "h264.mkv": ("libx264", "aac"),
    "ffv1.mkv": ("ffv1", "flac"),
    "mpeg4.avi": ("mpeg4", "libmp3lame"),
    "h264.avi": ("libx264", "libmp3lame"),
    "mpeg1.mpg": ("mpeg1video", "mp2"),
    "mpeg2.ts": ("mpeg2video", "mp2"),
    "h264.ts": ("libx264", "aac"),
    "vp8.webm": ("libvpx", "libopus"),
    "vp9.webm": ("libvpx-vp9", "libopus"),
    "flv1.flv": ("flv", "libmp3lame"),
    "wmv2.wmv": ("wmv2", "libmp3lame"),
    "raw.h264": ("libx264", None),
    "moving.gif": ("gif", None),
    "sound.wav": (None, "pcm_s16le"),
    "sound.ogg": (None, "libopus"),
}
"""Codecs of picture and sound, by file."""


def make_seeds(folder: Path) -> None:
    """Write one folder a kind: `media`, `pack`, `prepared`, `run`, `corpus`, `nemo`, `waveglow`, `recipe`."""
    make_media(folder / "media")
    make_pack(folder / "pack")
    shutil.copytree(SIM, folder / "corpus" / "sim")
    make_prepared(folder / "prepared" / "tiny", sorted((folder / "media").glob("*.mov")))
    recipe = Lip2MelRecipe(tiny(), train=TrainConfig(epochs=1, batch_size=2, workers=0), clips=2)
    run(recipe, folder / "prepared" / "tiny", folder / "run" / "tiny", None, make_fabric("cpu", 1, "32-true"))
    (folder / "recipe").mkdir()
    (folder / "recipe" / "recipe.json").write_text(to_json(recipe))
    make_checkpoints(folder)


def make_media(folder: Path) -> None:
    """Write a file of each of `MEDIA`, and texts that tell FFmpeg to open other files."""
    folder.mkdir(parents=True)
    for name, (video, sound) in MEDIA.items():
        _write(folder / name, video, sound)
    (folder / "playlist.mp4").write_text("ffconcat version 1.0\nfile 'h264.mkv'\n")
    (folder / "playlist.mkv").write_text(f"#EXTM3U\n#EXTINF:1,\n{folder}/h264.ts\n#EXT-X-ENDLIST\n")


class Fixed:
    """A detector that sees a face in the middle of everything."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """Find that face."""
        height, width = image.shape[:2]
        return [Face(np.array([width * 0.2, height * 0.1, width * 0.8, height * 0.9]), 1.0)]


def make_prepared(folder: Path, videos: list[Path]) -> None:
    """Write what `lipsound2 prepare` would make of videos, each of them once a split."""
    index = []
    for split in ("train", "val"):
        clips = [Clip(f"s1/{split}{n}", video, "s1", split, "bin blue") for n, video in enumerate(videos)]
        samples = [sample for clip in clips for sample in make_samples(clip, Fixed(), SampleConfig())]
        index += write_shard(folder / f"{split}-00000.tar", samples)
    write_text(folder / INDEX_NAME, to_lines(index))


def make_pack(folder: Path) -> None:
    """Write the smallest pack that has all parts."""
    parts = folder.with_name("parts")
    model = make(tiny())
    (parts / "model").mkdir(parents=True)
    (parts / "model" / "config.json").write_text(to_json(model.config))
    save_weights(parts / "model" / "model.safetensors", model.state_dict())
    torch.manual_seed(0)
    glow = WaveGlow(
        WaveGlowConfig(model.config.audio, 8, 6, early_size=0, layers=2, channels=8, condition=10, lead=3, prediction=6)
    )
    (parts / "waveglow").mkdir()
    (parts / "waveglow" / "config.json").write_text(to_json(glow.config))
    save_weights(parts / "waveglow" / "model.safetensors", glow.state_dict())
    language = train_ngram([["ab", "ba"], ["a", "b", "ab"]])
    save_recognizer(parts / "recognizer", Jasper(tiny_jasper("ab ", 4)).eval(), language)
    info = PackInfo("tiny", "1", "CC0-1.0", "nothing", "waveglow", {"STOI": 0.1})
    write_pack({part.name: part for part in parts.iterdir()}, folder / "tiny", info, "# Tiny\n")
    shutil.rmtree(parts)


class Evil:
    """What runs a command wherever it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("echo escaped",)


def make_checkpoints(folder: Path) -> None:
    """Write checkpoints of other programs, of which some run commands where they are unpickled."""
    glow = published_weights(AUDIO)
    (folder / "waveglow").mkdir()
    for name, content in {"plain": glow, "model": {"model": glow, "iteration": 3}, "x-evil": {"model": Evil()}}.items():
        torch.save(content, folder / "waveglow" / f"{name}.pt")
    torch.save({"model": glow}, folder / "waveglow" / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "waveglow" / "x-pickle.pt").write_bytes(pickle.dumps(Evil()))
    (folder / "nemo").mkdir()
    for number, (name, blocks) in enumerate({"jasper": nemo.JASPER, "quartznet": nemo.QUARTZNET}.items()):
        _write_nemo(folder / "nemo" / f"{name}.nemo", settings(blocks), weights(blocks, number))
    _write_nemo(folder / "nemo" / "x-evil.nemo", settings(nemo.JASPER), Evil())


def _write_nemo(path: Path, config: dict, state: object) -> None:
    file = io.BytesIO()
    torch.save(state, file)
    with tarfile.open(path, "w") as tar:
        for name, data in {
            "model_config.yaml": yaml.safe_dump(config).encode(),
            "model_weights.ckpt": file.getvalue(),
        }.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _write(path: Path, video: str | None, sound: str | None) -> None:
    """Write 20 pictures of a square that moves, with a tone."""
    flags = {"fragments": "+frag_keyframe+empty_moov", "faststart": "+faststart"}.get(path.stem)
    options = {"fflags": "+bitexact"} | ({"movflags": flags} if flags else {})
    with av.open(str(path), "w", options=options) as container:
        picture = _picture_stream(container, video) if video else None
        tone = container.add_stream(sound, rate=RATE, layout="mono", options=BITEXACT) if sound else None
        for packet in [*_pictures(picture), *_tone(tone)]:
            container.mux(packet)


def _picture_stream(container: av.container.OutputContainer, codec: str) -> av.VideoStream:
    quiet = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {}
    stream = container.add_stream(codec, rate=25, options={"threads": "1", "g": "8", **BITEXACT, **quiet})
    stream.width, stream.height = 64, 48
    stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    return stream


def _pictures(stream: av.VideoStream | None) -> Iterator[av.Packet]:
    if stream is None:
        return
    for index in range(20):
        image = np.full((48, 64, 3), 40, np.uint8)
        image[10:40, index : index + 30] = (200, 150, 10 * index)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = index, Fraction(1, 25)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _tone(stream: av.AudioStream | None) -> Iterator[av.Packet]:
    if stream is None:
        return
    context = stream.codec_context
    wave = 0.3 * np.sin(np.arange(round(0.8 * RATE)) * 2 * np.pi * 440 / RATE)
    size = context.frame_size or 1024
    for start in range(0, len(wave), size):
        samples = wave[start : start + size]
        kind = context.format.name
        scale, dtype = {"s32": (2**31 - 1, np.int32), "flt": (1, np.float32)}.get(kind[:3], (2**15 - 1, np.int16))
        data = (samples * scale).astype(dtype)
        frame = av.AudioFrame.from_ndarray(data[None], format=kind, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)
