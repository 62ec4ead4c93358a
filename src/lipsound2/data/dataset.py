"""A prepared folder -> batches of video and sound for training and validation."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lipsound2.audio import log_mel
from lipsound2.config import AudioConfig, AugmentConfig, VideoConfig
from lipsound2.corpora.clip import SPLITS, spread
from lipsound2.data.cache import ClipCache
from lipsound2.data.shards import Entry, read_index, read_wave
from lipsound2.data.view import Crops, draw_jitter, hide, read_crops, stretch, view
from lipsound2.errors import DataError

HOLD_OUT = 10
"""Of a corpus without a validation split, one training clip in so many is kept for it."""


class Example(NamedTuple):
    """One clip as the model sees it and what it should make of it."""

    key: str
    video: UInt8[Tensor, "channels time size size"]
    mel: Float[Tensor, "mels frames"]


class Batch(NamedTuple):
    """Clips padded to the longest; lengths say where the padding begins."""

    keys: list[str]
    video: UInt8[Tensor, "batch channels time size size"]
    video_lengths: Int[Tensor, " batch"]
    mel: Float[Tensor, "batch mels frames"]
    mel_lengths: Int[Tensor, " batch"]


class Decoded(NamedTuple):
    """A clip as it was prepared: its face and its sound."""

    crops: Crops
    wave: Float[Tensor, " samples"]


class Place(NamedTuple):
    """Which clip to load in which epoch; the epoch seeds its augmentation."""

    epoch: int
    clip: int


class ClipDataset(Dataset[Example]):
    """Clips of one split of a prepared folder.

    Args:
        folder: What `lipsound2 prepare` wrote.
        split: `train`, `val` or `test`.
        audio: Settings of the mel.
        video: What the encoder looks at.
        augment: How training clips are varied; None leaves them as they are.
        seed: Of the augmentation, together with epoch and index.
        limit: Take only so many clips, spread evenly over the split; 0 takes all.
        cache_gb: Decoded clips are kept in memory up to so many GB.
        speakers: Take only clips of these speakers; empty takes all.

    Attributes:
        device: Where decoded clips are kept and varied.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        audio: AudioConfig,
        video: VideoConfig,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        limit: int = 0,
        cache_gb: float = 2.0,
        speakers: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        entries = choose_entries(folder, split, speakers)
        if not entries:
            raise DataError(f"{folder} holds no clip of split {split!r}", "prepare a corpus that has one")
        self.entries = spread(entries, limit)
        self.audio = audio
        self.video = video
        self.augment = augment
        self.seed = seed
        self._check_rates()
        self.device = torch.device("cpu")
        self._cache = ClipCache[Decoded](cache_gb)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, place: Place) -> Example:
        clip = self._cache.get(place.clip, self._decode)
        key = self.entries[place.clip].key
        if self.augment is None:
            return Example(key, view(clip.crops, self.video), log_mel(clip.wave[None], self.audio)[0])
        rng = np.random.default_rng([self.seed, place.epoch, place.clip])
        if rng.random() < self.augment.splice:
            clip = self._spliced(clip, place.clip, rng)
        mel = log_mel(clip.wave[None], self.audio)[0]
        video = view(clip.crops, self.video, draw_jitter(self.augment, rng))
        if self.augment.hide:
            video = hide(video, self.augment.hide, self.video.fps, rng)
        rate = 1 + rng.uniform(-self.augment.speed, self.augment.speed)
        return Example(key, *self._stretched(video, mel, round(video.shape[1] * rate)))

    def fill_cache(self) -> None:
        """Decode clips now, on all cores, as many as there is room for."""
        self._cache.fill(len(self), self._decode)

    def wave(self, index: int) -> Float[Tensor, " samples"]:
        """Read a clip's sound."""
        return torch.from_numpy(read_wave(self.folder, self.entries[index]))

    def mel(self, index: int) -> Float[Tensor, "mels frames"]:
        """Compute the log-mel of a clip's sound."""
        return log_mel(self.wave(index)[None], self.audio)[0]

    def _decode(self, index: int) -> Decoded:
        crops = read_crops(self.folder, self.entries[index], self.video.channels)
        return Decoded(crops.to(self.device), self.wave(index).to(self.device))

    def _spliced(self, clip: Decoded, index: int, rng: np.random.Generator) -> Decoded:
        """Join a clip and another of its speaker, both cut at about the same place."""
        speaker = self.entries[index].meta["speaker"]
        others = [i for i, entry in enumerate(self.entries) if entry.meta["speaker"] == speaker]
        other = self._cache.get(int(rng.choice(others)), self._decode)
        share = rng.uniform(0.2, 0.8)
        rate = self.audio.sample_rate // self.video.fps
        cut, other_cut = round(share * len(clip.crops)), round(share * len(other.crops))
        halves = [
            Decoded(clip.crops[:cut], clip.wave[: cut * rate]),
            Decoded(other.crops[other_cut:], other.wave[other_cut * rate :]),
        ]
        if rng.random() < 0.5:
            # The end of one clip, then the start of the next: what a window sees in a long video.
            halves = [
                Decoded(clip.crops[cut:], clip.wave[cut * rate :]),
                Decoded(other.crops[:other_cut], other.wave[: other_cut * rate]),
            ]
        return Decoded(*(torch.cat(parts) for parts in zip(*halves, strict=True)))

    def _stretched(self, video: Tensor, mel: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        channels, _, size, _ = video.shape
        pixels = video.permute(0, 2, 3, 1).reshape(channels * size * size, -1).float()
        pixels = stretch(pixels, frames).round().to(torch.uint8)
        mel = stretch(mel, self.audio.mel_frames(frames, self.video.fps))
        return pixels.reshape(channels, size, size, frames).permute(0, 3, 1, 2).contiguous(), mel

    def _check_rates(self) -> None:
        meta = self.entries[0].meta
        for name, wanted in (("fps", self.video.fps), ("sample_rate", self.audio.sample_rate)):
            if meta[name] != wanted:
                raise DataError(
                    f"{self.folder} was prepared with {name} {meta[name]}, the model wants {wanted}",
                    "prepare the corpus again with the model's settings",
                )


def choose_entries(folder: Path, split: str, speakers: Sequence[str] = ()) -> list[Entry]:
    """List the clips of a split and, unless `speakers` is empty, of these speakers only.

    Where a small corpus has no clip for validation, every tenth of its training clips is kept for it.
    """
    entries = [entry for entry in read_index(folder) if not speakers or entry.meta["speaker"] in speakers]
    splits: dict[str, list[Entry]] = {name: [] for name in SPLITS}
    for entry in entries:
        splits[str(entry.meta["split"])].append(entry)
    if not splits["val"] and len(splits["train"]) > 1:
        train = splits["train"]
        splits |= {"val": train[1::HOLD_OUT], "train": [e for i, e in enumerate(train) if i % HOLD_OUT != 1]}
    return splits[split]


def collate(examples: Sequence[Example]) -> Batch:
    """Pad examples to the longest and stack them."""
    keys, videos, mels = zip(*examples, strict=True)
    return Batch(
        list(keys),
        torch.stack([_padded(video, 1, max(v.shape[1] for v in videos)) for video in videos]),
        torch.tensor([video.shape[1] for video in videos]),
        torch.stack([_padded(mel, 1, max(m.shape[1] for m in mels)) for mel in mels]),
        torch.tensor([mel.shape[1] for mel in mels]),
    )


def _padded(tensor: Tensor, dim: int, size: int) -> Tensor:
    missing = list(tensor.shape)
    missing[dim] = size - tensor.shape[dim]
    return torch.cat([tensor, tensor.new_zeros(missing)], dim=dim)


class EpochBatches(Sampler[list[Place]]):
    """Batches of places, shuffled anew each epoch, equally many for each process.

    Setting `epoch` and `start` takes up any epoch at any batch; what is left is exactly what an
    undisturbed run would have seen.

    Args:
        size: Clips in the data set.
        batch_size: Clips a batch and process.
        shuffle: Whether to shuffle.
        seed: Of the shuffling, together with the epoch.
        rank: This process.
        world_size: All processes.
    """

    def __init__(
        self, size: int, batch_size: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    @property
    def batches(self) -> int:
        """Batches that each process sees in an epoch."""
        return -(-self.size // (self.batch_size * self.world_size))

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Place]]:
        order = np.arange(self.size)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        # The last batch is filled up from the start, so that no process waits for another.
        order = np.resize(order, self.batches * self.batch_size * self.world_size)
        mine = order.reshape(self.batches, self.world_size, self.batch_size)[:, self.rank]
        for batch in mine[self.start :]:
            yield [Place(self.epoch, int(index)) for index in batch]
