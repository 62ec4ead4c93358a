"""Prepared clips -> random stretches of sound with their mel, to train vocoders on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from lipsound2.audio import log_mel
from lipsound2.config import AudioConfig
from lipsound2.corpora.clip import spread
from lipsound2.data.cache import ClipCache
from lipsound2.data.dataset import Place, choose_entries
from lipsound2.data.shards import read_wave
from lipsound2.errors import ConfigError, DataError

STEP = 1 / 32768
"""Of 16-bit sound, which noise of this width makes continuous: no density is then without bound."""


class Segment(NamedTuple):
    """A stretch of a clip.

    Attributes:
        wave: Its sound.
        mel: Its log-mel.
        past: The samples before it; silence before the clip.
    """

    wave: Float[Tensor, "*batch samples"]
    mel: Float[Tensor, "*batch mels frames"]
    past: Float[Tensor, "*batch past"]


class Heard(NamedTuple):
    """A clip's sound and its log-mel."""

    wave: Float[Tensor, " samples"]
    mel: Float[Tensor, "mels frames"]


class SegmentDataset(Dataset[Segment]):
    """The sound of the clips of one split, one random segment of each an epoch.

    Args:
        folder: What `lipsound2 prepare` wrote.
        split: `train` or `val`.
        audio: Settings of the mel; the sound must have their rate.
        frames: Mel frames a segment.
        past: Samples before the segment that are given too.
        seed: Of the choice of segments, together with epoch and clip.
        speakers: Take only clips of these; empty takes all.
        limit: Take only so many clips, spread evenly; 0 takes all.
        cache_gb: Sounds and their mels are kept in memory up to so many GB.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        audio: AudioConfig,
        frames: int,
        past: int = 0,
        seed: int = 0,
        speakers: Sequence[str] = (),
        limit: int = 0,
        cache_gb: float = 2.0,
    ) -> None:
        entries = choose_entries(folder, split, speakers)
        if not entries:
            raise DataError(f"{folder} holds no clip of split {split!r}", "prepare a corpus that has one")
        rates = {int(str(entry.meta["sample_rate"])) for entry in entries}
        if rates != {audio.sample_rate}:
            raise ConfigError(f"{folder} holds sound of {rates} Hz, the vocoder takes {audio.sample_rate} Hz")
        self.folder = folder
        self.entries = spread(entries, limit)
        self.audio = audio
        self.frames = frames
        self.past = past
        self.seed = seed
        self.generated: Mapping[str, Float[Tensor, "mels _"]] = {}
        self.generated_share = 0.0
        self._cache = ClipCache[Heard](cache_gb)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, place: Place) -> Segment:
        rng = np.random.default_rng([self.seed, place.epoch, place.clip])
        wave, mel = self.heard(place.clip)
        if rng.random() < self.generated_share:
            mel = self.generated_mel(place.clip)
        first = int(rng.integers(mel.shape[1] - self.frames + 1))
        start, stop = first * self.audio.hop_length, (first + self.frames) * self.audio.hop_length
        noise = torch.from_numpy(rng.uniform(-STEP / 2, STEP / 2, self.past + stop - start).astype(np.float32))
        heard = torch.cat([wave.new_zeros(self.past), wave])[start : stop + self.past] + noise
        return Segment(heard[self.past :], mel[:, first : first + self.frames], heard[: self.past])

    def use_generated(self, mels: Mapping[str, Float[Tensor, "mels _"]], share: float) -> None:
        """Take mels that a model made, by key, in the place of a share of the true ones."""
        self.generated, self.generated_share = mels, share

    def heard(self, clip: int) -> Heard:
        """Give a clip's sound, of whole frames, with silence behind it if it is shorter than a segment, and its mel."""
        return self._cache.get(clip, self._decode)

    def _decode(self, clip: int) -> Heard:
        wave = torch.from_numpy(read_wave(self.folder, self.entries[clip]))
        samples = max(len(wave) // self.audio.hop_length, self.frames) * self.audio.hop_length
        wave = torch.nn.functional.pad(wave, (0, max(0, samples - len(wave))))[:samples]
        return Heard(wave, log_mel(wave[None], self.audio)[0])

    def generated_mel(self, clip: int) -> Float[Tensor, "mels frames"]:
        """Return the generated mel of a clip, as long as the true one, which goes on where it ends or stands for it."""
        true = self.heard(clip).mel
        made = self.generated.get(self.entries[clip].key, true)
        return torch.cat([made[:, : true.shape[1]], true[:, made.shape[1] :]], dim=1)


def collate(segments: Sequence[Segment]) -> Segment:
    """Stack segments."""
    return Segment(*(torch.stack(parts) for parts in zip(*segments, strict=True)))
