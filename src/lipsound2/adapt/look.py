"""Prepared clips -> a look at each: how much is said, how clean it is, whose voice and face it is, what lips tell.

look/
  looking.json    the clips and the pack
  looks.jsonl     written last, a line a clip
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from lipsound2.adapt import level, sync
from lipsound2.adapt.level import Level
from lipsound2.adapt.sync import Sums
from lipsound2.audio import log_mel, resample
from lipsound2.corpora.clip import spread
from lipsound2.data.shards import Entry, read_crops, read_wave, to_lines
from lipsound2.errors import DataError, LipSoundError
from lipsound2.inference.windows import generate
from lipsound2.model import LipSound2
from lipsound2.model.preprocess import view
from lipsound2.packs import find_pack
from lipsound2.runtime.atomic import write_text
from lipsound2.runtime.executors import Work, Worker, choose
from lipsound2.runtime.plans import changes, write_plan
from lipsound2.runtime.resumable import STAGING_NAME, FolderJob, Progress, resumable_map
from lipsound2.voice.encoder import RATE, embed

PLAN_NAME, LOOKS_NAME = "looking.json", "looks.jsonl"
MATCHED = 40
"""Clips, spread evenly, of which sound and picture are compared."""
LEAST_VOICE = 0.5
"""Seconds of speech from which on a voice is known."""
FACE = 24
"""Side in pixels of the picture by which faces are compared."""


@dataclass(frozen=True)
class Look:
    """What a clip shows.

    Attributes:
        key: The clip's key.
        id: Its name.
        level: Loudness of its sound.
        voice: Speaker embedding, of length 1; empty if too little is said.
        face: Mean grey picture of the face, standardised and of length 1.
        sums: Correlations of sound and picture, if they were compared.
        error: Why it cannot be used, or empty; all else means nothing then.
    """

    key: str
    id: str
    level: Level
    voice: tuple[float, ...] = ()
    face: tuple[float, ...] = ()
    sums: Sums | None = None
    error: str = ""


class Item(NamedTuple):
    """A clip, where its look is staged, and whether sound and picture are compared."""

    entry: Entry
    result: Path
    matched: bool

    @property
    def name(self) -> str:
        """The clip, as errors quote it."""
        return str(self.entry.meta["id"])


def look_at(
    prepared: Path,
    entries: Sequence[Entry],
    pack: str,
    output: Path,
    device: str,
    workers: int = 0,
    progress: Progress = lambda done, total: None,
) -> list[Look]:
    """Look at prepared clips, or go on where an earlier call was interrupted.

    Args:
        prepared: What `lipsound2 prepare` wrote.
        entries: Its clips.
        pack: Pack by name or folder whose model predicts mels.
        output: Folder of the looks.
        device: A torch device.
        workers: Processes; 0 takes one per core, or one on a GPU.
        progress: Called with the number of clips done and the total.
    """
    job = _Looking(prepared, entries, pack, output, device)
    resumable_map(job, choose(workers or (1 if device != "cpu" else 0)), progress)
    lines = (output / LOOKS_NAME).read_text(encoding="utf-8").splitlines()
    return [_look(json.loads(line)) for line in lines]


class _Looking(FolderJob[Item]):
    """Looks at clips, staged one by one."""

    title = "look"

    def __init__(self, prepared: Path, entries: Sequence[Entry], pack: str, output: Path, device: str) -> None:
        self.output = output
        self.prepared = prepared
        self.pack = pack
        self.device = device
        matched = {entry.key for entry in spread(list(entries), MATCHED)}
        staging = output / STAGING_NAME
        self.clips = [
            Item(entry, staging / f"{number:06d}.json", entry.key in matched) for number, entry in enumerate(entries)
        ]

    def begin(self) -> None:
        """Check that the clips and the pack are the same; others are looked at anew."""
        lines = to_lines([item.entry for item in self.clips])
        plan = {"clips": sha256(lines.encode()).hexdigest(), "model": find_pack(self.pack).model_digest}
        if changes(self.output / PLAN_NAME, plan) == []:
            return
        (self.output / LOOKS_NAME).unlink(missing_ok=True)
        for path in (self.output / STAGING_NAME).glob("*.json"):
            path.unlink()
        write_plan(self.output / PLAN_NAME, plan)

    def complete(self) -> bool:
        """Return whether all clips were looked at."""
        return (self.output / LOOKS_NAME).exists()

    def items(self) -> Sequence[Item]:
        """List the clips."""
        return self.clips

    def staged(self, item: Item) -> bool:
        """Return whether a clip was looked at."""
        return item.result.exists()

    def worker(self) -> Worker[Item]:
        """Return the worker, which loads the pack's model."""
        return partial(_open_eyes, self.prepared, self.pack, self.device)

    def fail(self, item: Item, error: LipSoundError) -> None:
        """Stage why a clip cannot be used."""
        unknown = Level(0.0, 0.0, level.QUIETEST, level.QUIETEST, 0.0)
        _stage(item, Look(item.entry.key, item.name, unknown, error=error.message))

    def finish(self) -> None:
        """Join the looks."""
        texts = [item.result.read_text(encoding="utf-8") for item in self.clips]
        write_text(self.output / LOOKS_NAME, "".join(texts))


def _open_eyes(prepared: Path, pack: str, device: str) -> Work[Item]:
    """Load the model, and return what looks at a clip."""
    torch.set_num_threads(1)
    model = find_pack(pack).load_model(device)

    def work(item: Item) -> None:
        _stage(item, examine(prepared, item.entry, model, item.matched))

    return work


def examine(prepared: Path, entry: Entry, model: LipSound2, matched: bool) -> Look:
    """Look at one clip."""
    wave = read_wave(prepared, entry)
    rate = int(str(entry.meta["sample_rate"]))
    found = level.measure(wave, rate)
    crops = read_crops(prepared, entry, model.config.video.channels)
    voice: tuple[float, ...] = ()
    if found.speech >= LEAST_VOICE and not found.silent:
        voice = _rounded(embed(resample(wave, rate, RATE)))
    sums = _match(model, crops, wave, rate) if matched and not found.silent else None
    return Look(entry.key, str(entry.meta["id"]), found, voice, _rounded(portrait(crops)), sums)


def portrait(crops: UInt8[Tensor, "frames channels 160 160"]) -> Float32[np.ndarray, " pixels"]:
    """Return the mean picture of a face, of zero mean and length 1."""
    mean = crops[::5].float().mean(dim=(0, 1)).numpy()
    small = cv2.resize(mean, (FACE, FACE), interpolation=cv2.INTER_AREA).ravel()
    centred = small - small.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), np.float32)


def _match(
    model: LipSound2, crops: UInt8[Tensor, "frames channels 160 160"], wave: Float32[np.ndarray, " samples"], rate: int
) -> Sums:
    audio, video = model.config.audio, model.config.video
    device = model.mel_mean.device
    views = (view(crop[None], video)[:, 0].to(device) for crop in crops)
    predicted = generate(model, views, len(crops)).mel.cpu().numpy()
    samples = torch.from_numpy(resample(wave, rate, audio.sample_rate))[None]
    return sync.compare(predicted, log_mel(samples, audio)[0].numpy(), audio.sample_rate / audio.hop_length)


def _rounded(values: Float32[np.ndarray, " values"]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)


def _stage(item: Item, look: Look) -> None:
    write_text(item.result, json.dumps(asdict(look), ensure_ascii=True) + "\n")


def _look(row: dict[str, object]) -> Look:
    """Read a look.

    Raises:
        DataError: It is damaged.
    """
    make: Callable[..., Look] = Look
    try:
        data = dict(row)
        sums = data["sums"]
        return make(
            **data
            | {
                "level": Level(**data["level"]),  # type: ignore[arg-type]
                "voice": tuple(data["voice"]),  # type: ignore[arg-type]
                "face": tuple(data["face"]),  # type: ignore[arg-type]
                "sums": Sums(**{k: tuple(v) for k, v in sums.items()}) if isinstance(sums, dict) else None,
            }
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{LOOKS_NAME} is damaged: {error}", "delete it and call again") from error
