"""Prepared clips -> random stretches of sound with their mel, to train vocoders on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
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
    """Stretches of clips.

    Attributes:
        wave: Its sound.
        mel: Its log-mel.
        past: The samples before it; silence before the clip.
    """

    wave: Float[Tensor, "batch samples"]
    mel: Float[Tensor, "batch mels frames"]
    past: Float[Tensor, "batch past"]


class Heard(NamedTuple):
    """A clip's sound and its log-mel."""

    wave: Float[Tensor, " samples"]
    mel: Float[Tensor, "mels frames"]


class _Bank(NamedTuple):
    """The sound of all clips one after the other, on the device that trains.

    Attributes:
        wave: Each clip with the silence before it.
        mel: Their log-mels.
        made: Those of a model, or nothing.
        samples: Where the silence before each clip begins.
        frames: Where each clip's mel begins, and where the last one ends.
    """

    wave: Float[Tensor, " samples"]
    mel: Float[Tensor, "frames mels"]
    made: Float[Tensor, "_ mels"]
    samples: Int64[np.ndarray, " clips"]
    frames: Int64[np.ndarray, " bounds"]


class SegmentDataset(Dataset[Place]):
    """The sound of the clips of one split, of each of which an epoch sees random segments.

    Its items are places alone. `draw` turns those of a batch into segments on the device that trains, all at once.

    Args:
        folder: What `lipsound2 prepare` wrote.
        split: `train` or `val`.
        audio: Settings of the mel; the sound must have their rate.
        frames: Mel frames a segment.
        past: Samples before the segment that are given too.
        seed: Of the choice of segments, together with epoch and clip.
        speakers: Take only clips of these; empty takes all.
        limit: Take only so many clips, spread evenly; 0 takes all.
        cache_gb: Sounds and their mels are kept in memory up to so many GB; on the device if all fit.
        segments: Of each clip an epoch.
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
        segments: int = 1,
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
        self.segments = segments
        self.generated: Mapping[str, Float[Tensor, "mels _"]] = {}
        self.generated_share = 0.0
        self.device = torch.device("cpu")
        self._cache = ClipCache[Heard](cache_gb)
        self._bank: _Bank | None = None
        self._drawn: tuple[int, Float64[np.ndarray, "places 2"]] | None = None

    def __len__(self) -> int:
        return len(self.entries) * self.segments

    def __getitem__(self, place: Place) -> Place:
        return place

    def draw(self, places: Sequence[Place]) -> Segment:
        """Draw a random segment for each place, on the device."""
        clips = [place.clip % len(self.entries) for place in places]
        chances = np.stack([self._chances(place.epoch)[place.clip] for place in places])
        generated = chances[:, 1] < self.generated_share
        if self._bank:
            heard, mel = self._banked(self._bank, clips, chances[:, 0], generated)
        else:
            heard, mel = _stacked([*map(self._one, clips, chances[:, 0].tolist(), generated.tolist())])
        state = [self.seed, *places[0], *(place.clip for place in places[1:])]
        generator = torch.Generator(self.device).manual_seed(int(np.random.SeedSequence(state).generate_state(1)[0]))
        noise = torch.rand(heard.shape, generator=generator, device=self.device) - 0.5
        heard = heard + STEP * noise
        return Segment(heard[:, self.past :], mel, heard[:, : self.past])

    def hold(self, device: torch.device) -> None:
        """Decode all clips, on all cores, and keep them on a device if they fit into `cache_gb`."""
        self.device = device
        self._cache.fill(len(self.entries), self._decode)
        if len(self._cache) < len(self.entries):
            return
        clips = [self.heard(clip) for clip in range(len(self.entries))]
        made = [self.generated_mel(clip).T for clip in range(len(clips))] if self.generated_share else []
        waves = [part for clip in clips for part in (clip.wave.new_zeros(self.past), clip.wave)]
        lengths = np.array([clip.mel.shape[1] for clip in clips])
        sizes = self.past + lengths * self.audio.hop_length
        self._bank = _Bank(
            torch.cat(waves).to(device),
            torch.cat([clip.mel.T for clip in clips]).to(device),
            torch.cat(made).to(device) if made else torch.zeros(0, self.audio.n_mels, device=device),
            np.cumsum(sizes) - sizes,
            np.concatenate([[0], np.cumsum(lengths)]),
        )

    def _chances(self, epoch: int) -> Float64[np.ndarray, "places 2"]:
        """Return two random numbers a place, which depend on seed, epoch and place alone."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, np.random.default_rng([self.seed, epoch, 1]).random((len(self), 2))
        return self._drawn[1]

    def _banked(
        self, bank: _Bank, clips: list[int], chances: np.ndarray, generated: np.ndarray
    ) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, "batch mels frames"]]:
        lengths = np.diff(bank.frames)[clips]
        first = (chances * (lengths - self.frames + 1)).astype(np.int64)
        starts = np.stack([bank.samples[clips] + first * self.audio.hop_length, bank.frames[clips] + first, generated])
        sample, frame, made = torch.from_numpy(starts).to(self.device, non_blocking=True)
        samples = torch.arange(self.past + self.frames * self.audio.hop_length, device=self.device)
        rows = frame[:, None] + torch.arange(self.frames, device=self.device)
        mel = bank.mel[rows]
        if len(bank.made):
            mel = torch.where(made[:, None, None] > 0, bank.made[rows], mel)
        return bank.wave[sample[:, None] + samples], mel.transpose(1, 2).contiguous()

    def _one(self, clip: int, chance: float, generated: bool) -> Heard:
        wave, mel = self.heard(clip)
        mel = self.generated_mel(clip) if generated else mel
        first = int(chance * (mel.shape[1] - self.frames + 1))
        start, stop = first * self.audio.hop_length, (first + self.frames) * self.audio.hop_length
        wave = torch.cat([wave.new_zeros(self.past), wave])[start : stop + self.past]
        return Heard(wave.to(self.device), mel[:, first : first + self.frames].to(self.device))

    def use_generated(self, mels: Mapping[str, Float[Tensor, "mels _"]], share: float) -> None:
        """Take mels that a model made, by key, in the place of a share of the true ones."""
        self.generated, self.generated_share = mels, share

    def heard(self, clip: int) -> Heard:
        """Return a clip's sound, of whole frames, continued by silence to at least a segment, and its mel."""
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


def _stacked(
    found: Sequence[Heard],
) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, "batch mels frames"]]:
    waves, mels = zip(*found, strict=True)
    return torch.stack(waves), torch.stack(mels)
