"""A prepared folder -> batches of video and audio for training and validation."""

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset, Sampler

from lipsound2.audio import log_mel
from lipsound2.config import AudioConfig, AugmentConfig, VideoConfig
from lipsound2.corpora.clip import SPLITS, spread
from lipsound2.data.augment import (
    Batch,
    Change,
    Jitter,
    Stack,
    Stretch,
    draw_hidden,
    draw_jitter,
    seen_box,
    stack,
    vary,
)
from lipsound2.data.cache import ClipCache
from lipsound2.data.shards import Entry, read_crops, read_index, read_wave
from lipsound2.data.voices import Voices
from lipsound2.errors import DataError

HOLD_OUT = 10
"""In a corpus without a validation split, one training clip in so many is held out for it."""


UNEQUAL = 1.25
"""Ratio of the longest to the shortest example above which batches are bucketed by length."""
POOL = 50
"""Batches that are sorted by length together."""


class Decoded(NamedTuple):
    """A clip as prepared: its face, cut to what any augmentation can show, and its audio."""

    crops: UInt8[Tensor, "frames channels height width"]
    wave: Float[Tensor, " samples"]


def count_parts(stretches: float) -> int:
    """Count the examples of a clip of so many stretches; the remainder counts if it is longer than half of one."""
    return max(1, round(stretches))


class Place(NamedTuple):
    """Which clip to load in which epoch; the epoch seeds its augmentation."""

    epoch: int
    clip: int


class ClipDataset(Dataset[Stretch]):
    """Clips of one split of a prepared folder, whole or cut to stretches; `vary` makes stacked ones a model's batch.

        data = ClipDataset(Path("prepared"))
        for stacked in DataLoader(data, batch_size=8, shuffle=True):
            batch = data.vary(stacked)  # video, mel and their lengths

    Args:
        folder: What `lipsound2 prepare` wrote.
        split: `train`, `val` or `test`.
        audio: Settings of the mel; by default those of `AudioConfig`.
        video: Settings of the encoder's input; by default those of `VideoConfig`.
        augment: Augmentation of training clips; None for none.
        seed: Random seed of the augmentation, combined with epoch and index.
        limit: Number of clips, spread evenly over the split; 0 takes all.
        cache_gb: Memory in GB for decoded clips.
        speakers: Speakers whose clips are used; empty takes all.
        seconds: Longest stretch; a longer clip is as many examples as such stretches fit into it, each of which
            begins somewhere else in every epoch. 0 takes clips whole.
        voices: Whether examples come with a speaker embedding, of another clip of the same speaker.

    Attributes:
        epoch: Epoch of places that are given by their number alone; it seeds their augmentation.
        device: Where decoded clips are cached.
        multiple: Batches are padded to a multiple of so many video frames.
        lags: Mel frames by which the audio of a clip is late, by key; examples have this delay removed.
    """

    def __init__(
        self,
        folder: Path,
        split: str = "train",
        audio: AudioConfig | None = None,
        video: VideoConfig | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        limit: int = 0,
        cache_gb: float = 2.0,
        speakers: Sequence[str] = (),
        seconds: float = 0.0,
        voices: bool = False,
    ) -> None:
        self.folder = folder
        entries = choose_entries(folder, split, speakers)
        if not entries:
            raise without_clips(folder, split, speakers)
        self.entries = spread(entries, limit)
        self.audio = audio = audio or AudioConfig()
        self.video = video = video or VideoConfig()
        self.augment = augment
        self.seed = seed
        self._check_rates()
        self.frames = round(seconds * video.fps)
        places = [(clip, part) for clip, entry in enumerate(self.entries) for part in range(self._parts(entry))]
        self.places = places if augment else spread(places, limit)
        self.box = seen_box(video, augment)
        self.epoch = 0
        self.device = torch.device("cpu")
        self.multiple = 1
        self.lags: dict[str, int] = {}
        self._cache = ClipCache[Decoded](cache_gb)
        speakers_of_clips = [str(entry.meta["speaker"]) for entry in self.entries]
        self.voices = Voices(speakers_of_clips, self.wave, audio.sample_rate) if voices else None
        self._of_speaker: dict[object, list[int]] = {}
        for clip, entry in enumerate(self.entries):
            self._of_speaker.setdefault(entry.meta["speaker"], []).append(clip)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Place | int) -> Stretch:
        """Return an example.

        Raises:
            IndexError: There are not so many.
        """
        if not isinstance(place, Place):
            place = Place(self.epoch, range(len(self))[place])
        index, part = self.places[place.clip]
        clip = self._clip(index)
        key = self.entries[index].key
        rng = np.random.default_rng([self.seed, place.epoch, place.clip])
        if self.augment is None:
            frames = min(len(clip.crops), self.frames or len(clip.crops))
            start = min(part * frames, len(clip.crops) - frames)
            plain = self._cut(key, clip, start, start + frames, Change(Jitter(), frames))
            return replace(plain, voice=self.voices.following(index)) if self.voices else plain
        if rng.random() < self.augment.splice:
            clip = self._spliced(clip, index, rng)
        jitter = draw_jitter(self.augment, rng)
        hidden = draw_hidden(len(clip.crops), self.augment.hide, self.video.fps, rng) if self.augment.hide else ()
        rate = 1 + rng.uniform(-self.augment.speed, self.augment.speed)
        start, stop, frames = self._chosen(len(clip.crops), part, rate, rng)
        spans = tuple((max(first - start, 0), max(last - start, 0)) for first, last in hidden)
        varied = self._cut(key, clip, start, stop, Change(jitter, frames, spans))
        return replace(varied, voice=self.voices.drawn(index, rng)) if self.voices else varied

    def batch(self, examples: Sequence[Stretch]) -> Stack:
        """Pad and stack examples; runs in a loader process or in the training process."""
        return stack(examples, self.multiple)

    def vary(self, stacked: Stack, device: torch.device | None = None) -> Batch:
        """Augment a batch and compute its mels, on `device`."""
        return vary(stacked, self.video, self.audio, device or self.device)

    def load(self, places: Sequence[Place | int], device: torch.device | None = None) -> Batch:
        """Load a batch."""
        return self.vary(self.batch([self[place] for place in places]), device)

    @property
    def lengths(self) -> list[int]:
        """Return the video frames of each example, as far as they are known before decoding."""
        found = [self.entries[clip].meta.get("frames") for clip, _ in self.places]
        most = self.frames or sys.maxsize
        return [min(frames, most) if isinstance(frames, int) else 0 for frames in found]

    def plain(self) -> "ClipDataset":
        """Return the same clips without augmentation or lag compensation; the cache is shared."""
        same = copy.copy(self)
        same.augment, same.lags = None, {}
        return same

    def fill_cache(self) -> None:
        """Decode as many clips as the cache holds, on all cores."""
        self._cache.fill(len(self.entries), self._decode)

    def cached_share(self) -> float:
        """Return the share of the clips that the cache has room for, as far as that is known."""
        return self._cache.share(len(self.entries))

    def wave(self, index: int) -> Float[Tensor, " samples"]:
        """Return a clip's audio."""
        return torch.from_numpy(read_wave(self.folder, self.entries[index]))

    def mel(self, index: int) -> Float[Tensor, "mels frames"]:
        """Compute the log-mel of a clip's audio."""
        return log_mel(self.wave(index)[None], self.audio)[0]

    def _decode(self, index: int) -> Decoded:
        left, top, right, bottom = self.box
        crops = read_crops(self.folder, self.entries[index], self.video.channels)[..., top:bottom, left:right]
        return Decoded(crops.contiguous().to(self.device), self.wave(index).to(self.device))

    def _parts(self, entry: Entry) -> int:
        frames = entry.meta.get("frames")
        return count_parts(frames / self.frames) if self.frames and isinstance(frames, int) else 1

    def _chosen(self, length: int, part: int, rate: float, rng: np.random.Generator) -> tuple[int, int, int]:
        """Choose which frames of a clip are taken, and to how many they are resampled."""
        if not self.frames:
            return 0, length, max(1, round(length * rate))
        taken = min(length, max(1, round(self.frames / rate)))
        middle = part * self.frames + rng.uniform(-self.frames / 2, self.frames / 2)
        start = min(max(0, round(middle)), length - taken)
        return start, start + taken, min(self.frames, max(1, round(taken * rate)))

    def _clip(self, index: int) -> Decoded:
        """Return a clip with the known lag of its audio removed."""
        clip = self._cache.get(index, self._decode)
        late = self.lags.get(self.entries[index].key, 0) * self.audio.hop_length
        if not late:
            return clip
        length = len(clip.wave)
        wave = clip.wave[max(0, late) : max(0, length + late)]
        missing = length - len(wave)
        return clip._replace(wave=pad(wave, (0, missing) if late > 0 else (missing, 0)))

    def _cut(self, key: str, clip: Decoded, start: int, stop: int, change: Change) -> Stretch:
        """Cut video and audio to the same time."""
        first, last = self._sample(start), self._sample(stop)
        wave = clip.wave[first:last]
        return Stretch(key, clip.crops[start:stop], pad(wave, (0, last - first - len(wave))), change, box=self.box)

    def _sample(self, frame: int) -> int:
        """Return the first sample of a video frame."""
        return frame * self.audio.sample_rate // self.video.fps

    def _spliced(self, clip: Decoded, index: int, rng: np.random.Generator) -> Decoded:
        """Splice a clip with another of its speaker, both cut at about the same place."""
        others = self._of_speaker[self.entries[index].meta["speaker"]]
        other = self._clip(int(rng.choice(others)))
        share = rng.uniform(0.2, 0.8)
        cut, other_cut = round(share * len(clip.crops)), round(share * len(other.crops))
        sample, other_sample = self._sample(cut), self._sample(other_cut)
        halves = [
            Decoded(clip.crops[:cut], clip.wave[:sample]),
            Decoded(other.crops[other_cut:], other.wave[other_sample:]),
        ]
        if rng.random() < 0.5:
            # The end of one clip, then the start of the next, as in a window of a long video.
            halves = [
                Decoded(clip.crops[cut:], clip.wave[sample:]),
                Decoded(other.crops[:other_cut], other.wave[:other_sample]),
            ]
        return Decoded(*(torch.cat(parts) for parts in zip(*halves, strict=True)))

    def _check_rates(self) -> None:
        meta = self.entries[0].meta
        for name, wanted in (("fps", self.video.fps), ("sample_rate", self.audio.sample_rate)):
            if meta[name] != wanted:
                raise DataError(
                    f"{self.folder} was prepared with {name} {meta[name]}, the model wants {wanted}",
                    "prepare the corpus again with the model's settings",
                )


def choose_entries(folder: Path, split: str, speakers: Sequence[str] = ()) -> list[Entry]:
    """List the clips of a split, of these speakers only unless `speakers` is empty.

    Where a corpus has no validation split, every tenth training clip is held out for it.
    """
    entries = [entry for entry in read_index(folder) if not speakers or entry.meta["speaker"] in speakers]
    splits: dict[str, list[Entry]] = {name: [] for name in SPLITS}
    for entry in entries:
        splits[str(entry.meta["split"])].append(entry)
    if not splits["val"] and len(splits["train"]) > 1:
        train = splits["train"]
        splits |= {"val": train[1::HOLD_OUT], "train": [e for i, e in enumerate(train) if i % HOLD_OUT != 1]}
    return splits[split]


def without_clips(folder: Path, split: str, speakers: Sequence[str] = (), with_what: str = "") -> DataError:
    """Return the error of a split that has no clip.

    Args:
        folder: What `lipsound2 prepare` wrote.
        split: The split.
        speakers: Speakers whose clips are used; empty takes all.
        with_what: What the clips lack, such as ` with a transcript`.
    """
    entries = read_index(folder)
    used = [entry for entry in entries if not speakers or entry.meta["speaker"] in speakers]
    if entries and not used:
        known = ", ".join(sorted({str(entry.meta["speaker"]) for entry in entries})[:10])
        return DataError(f"{folder} holds no clip of {', '.join(speakers)}", f"its speakers are {known}")
    if split == "val" and len(used) == 1 and not with_what:
        return DataError(
            f"{folder} holds 1 clip only, so that none is left to validate on",
            "prepare more videos, or a longer one, which is cut into several clips",
        )
    return DataError(f"{folder} holds no clip of split {split!r}{with_what}", "prepare a corpus that has one")


class EpochBatches(Sampler[list[Place]]):
    """Batches of places, shuffled anew each epoch, equally many per process.

    With `epoch` and `start` set, iteration resumes in any epoch at any batch, with exactly the batches of an
    uninterrupted run.

    Args:
        size: Number of examples in the data set.
        batch_size: Batch size per process.
        shuffle: Whether to shuffle.
        seed: Random seed of the shuffling, combined with the epoch.
        rank: Rank of this process.
        world_size: Number of processes.
        accumulate: Gradient-accumulation steps; an epoch's batches are a multiple of them.
        lengths: Lengths of the examples; where they differ much, batches are bucketed by length.

    Attributes:
        epochs: Number of epochs after which iteration ends; None ends after the present one.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        lengths: Sequence[int] = (),
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        known = np.array(lengths or [0])
        self.lengths = known if known.max() > UNEQUAL * known.min() else None
        self.epoch = 0
        self.start = 0
        self.epochs: int | None = None

    @property
    def batches(self) -> int:
        """Return the number of batches per process and epoch."""
        together = self.batch_size * self.world_size * self.accumulate
        return -(-self.size // together) * self.accumulate

    def __len__(self) -> int:
        return self.batches * ((self.epochs or self.epoch + 1) - self.epoch) - self.start

    def __iter__(self) -> Iterator[list[Place]]:
        start = self.start
        for epoch in range(self.epoch, self.epochs or self.epoch + 1):
            for batch in self._order(epoch)[start:, self.rank]:
                yield [Place(epoch, int(index)) for index in batch]
            start = 0

    def _order(self, epoch: int) -> Int64[np.ndarray, "batches processes batch"]:
        rng = np.random.default_rng([self.seed, epoch])
        order = np.arange(self.size)
        if self.shuffle:
            rng.shuffle(order)
        # The last batch is filled up from the start, so that no process waits for another.
        order = np.resize(order, self.batches * self.batch_size * self.world_size)
        if self.lengths is None:
            return order.reshape(self.batches, self.world_size, self.batch_size)
        pool = self.batch_size * self.world_size * POOL
        chunks = [order[i : i + pool] for i in range(0, len(order), pool)]
        order = np.concatenate([chunk[self.lengths[chunk].argsort(kind="stable")] for chunk in chunks])
        batches = order.reshape(self.batches, self.world_size, self.batch_size)
        return batches[rng.permutation(self.batches)] if self.shuffle else batches
