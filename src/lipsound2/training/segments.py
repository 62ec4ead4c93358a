"""Prepared clips -> random segments of audio with their mel, for training vocoders."""

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
from lipsound2.data.dataset import Place, choose_entries, without_clips
from lipsound2.data.shards import read_wave
from lipsound2.errors import ConfigError

STEP = 1 / 32768
"""Quantisation step of 16-bit audio; dithering with noise of this width bounds the density."""


class Segment(NamedTuple):
    """Segments of clips.

    Attributes:
        wave: Audio.
        mel: Log-mel.
        past: The samples before the segment; silence before the clip.
    """

    wave: Float[Tensor, "batch samples"]
    mel: Float[Tensor, "batch mels frames"]
    past: Float[Tensor, "batch past"]


class Recording(NamedTuple):
    """A clip's audio and its log-mel."""

    wave: Float[Tensor, " samples"]
    mel: Float[Tensor, "mels frames"]


class _Bank(NamedTuple):
    """The concatenated audio of all clips, on the training device.

    Attributes:
        wave: Each clip with the silence before it.
        mel: Their log-mels.
        generated: Their generated mels, or empty.
        samples: Where the silence before each clip begins.
        frames: Where each clip's mel begins, and where the last one ends.
    """

    wave: Float[Tensor, " samples"]
    mel: Float[Tensor, "frames mels"]
    generated: Float[Tensor, "_ mels"]
    samples: Int64[np.ndarray, " clips"]
    frames: Int64[np.ndarray, " bounds"]


class SegmentDataset(Dataset[Place]):
    """Random segments of the clips of one split.

    Its items are places. `draw` turns those of a batch into segments on the training device, all at once.

    Args:
        folder: What `lipsound2 prepare` wrote.
        split: `train` or `val`.
        audio: Settings of the mel; the audio must have their sample rate.
        frames: Mel frames per segment.
        past: Number of samples before the segment that are returned too.
        seed: Random seed of the segments, combined with epoch and clip.
        speakers: Speakers whose clips are used; empty takes all.
        limit: Number of clips, spread evenly; 0 takes all.
        cache_gb: Memory in GB for audio and mels; on the device if all fit.
        segments: Number of segments of each clip per epoch.
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
            raise without_clips(folder, split, speakers)
        rates = {int(str(entry.meta["sample_rate"])) for entry in entries}
        if rates != {audio.sample_rate}:
            raise ConfigError(f"{folder} holds audio of {rates} Hz, the vocoder takes {audio.sample_rate} Hz")
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
        self._cache = ClipCache[Recording](cache_gb)
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
            wave, mel = self._banked(self._bank, clips, chances[:, 0], generated)
        else:
            wave, mel = _stacked([*map(self._one, clips, chances[:, 0].tolist(), generated.tolist())])
        state = [self.seed, *places[0], *(place.clip for place in places[1:])]
        generator = torch.Generator(self.device).manual_seed(int(np.random.SeedSequence(state).generate_state(1)[0]))
        noise = torch.rand(wave.shape, generator=generator, device=self.device) - 0.5
        wave = wave + STEP * noise
        return Segment(wave[:, self.past :], mel, wave[:, : self.past])

    def hold(self, device: torch.device) -> None:
        """Decode all clips on all cores, and cache them on a device if they fit into `cache_gb`."""
        self.device = device
        self._cache.fill(len(self.entries), self._decode)
        if len(self._cache) < len(self.entries):
            return
        clips = [self.recording(clip) for clip in range(len(self.entries))]
        generated = [self.generated_mel(clip).T for clip in range(len(clips))] if self.generated_share else []
        waves = [part for clip in clips for part in (clip.wave.new_zeros(self.past), clip.wave)]
        lengths = np.array([clip.mel.shape[1] for clip in clips])
        sizes = self.past + lengths * self.audio.hop_length
        self._bank = _Bank(
            torch.cat(waves).to(device),
            torch.cat([clip.mel.T for clip in clips]).to(device),
            torch.cat(generated).to(device) if generated else torch.zeros(0, self.audio.n_mels, device=device),
            np.cumsum(sizes) - sizes,
            np.concatenate([[0], np.cumsum(lengths)]),
        )

    def _chances(self, epoch: int) -> Float64[np.ndarray, "places 2"]:
        """Return two random numbers per place, from seed, epoch and place alone."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, np.random.default_rng([self.seed, epoch, 1]).random((len(self), 2))
        return self._drawn[1]

    def _banked(
        self, bank: _Bank, clips: list[int], chances: np.ndarray, generated: np.ndarray
    ) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, "batch mels frames"]]:
        lengths = np.diff(bank.frames)[clips]
        first = (chances * (lengths - self.frames + 1)).astype(np.int64)
        starts = np.stack([bank.samples[clips] + first * self.audio.hop_length, bank.frames[clips] + first, generated])
        sample, frame, chosen = torch.from_numpy(starts).to(self.device, non_blocking=True)
        samples = torch.arange(self.past + self.frames * self.audio.hop_length, device=self.device)
        rows = frame[:, None] + torch.arange(self.frames, device=self.device)
        mel = bank.mel[rows]
        if len(bank.generated):
            mel = torch.where(chosen[:, None, None] > 0, bank.generated[rows], mel)
        return bank.wave[sample[:, None] + samples], mel.transpose(1, 2).contiguous()

    def _one(self, clip: int, chance: float, generated: bool) -> Recording:
        wave, mel = self.recording(clip)
        mel = self.generated_mel(clip) if generated else mel
        first = int(chance * (mel.shape[1] - self.frames + 1))
        start, stop = first * self.audio.hop_length, (first + self.frames) * self.audio.hop_length
        wave = torch.cat([wave.new_zeros(self.past), wave])[start : stop + self.past]
        return Recording(wave.to(self.device), mel[:, first : first + self.frames].to(self.device))

    def use_generated(self, mels: Mapping[str, Float[Tensor, "mels _"]], share: float) -> None:
        """Replace a share of the reference mels by generated ones, given by key."""
        self.generated, self.generated_share = mels, share

    def recording(self, clip: int) -> Recording:
        """Return a clip's audio, of whole frames, padded with silence to at least a segment, and its mel."""
        return self._cache.get(clip, self._decode)

    def _decode(self, clip: int) -> Recording:
        wave = torch.from_numpy(read_wave(self.folder, self.entries[clip]))
        samples = max(len(wave) // self.audio.hop_length, self.frames) * self.audio.hop_length
        wave = torch.nn.functional.pad(wave, (0, max(0, samples - len(wave))))[:samples]
        return Recording(wave, log_mel(wave[None], self.audio)[0])

    def generated_mel(self, clip: int) -> Float[Tensor, "mels frames"]:
        """Return the generated mel of a clip, as long as the reference, which replaces what is missing."""
        reference = self.recording(clip).mel
        generated = self.generated.get(self.entries[clip].key, reference)
        return torch.cat([generated[:, : reference.shape[1]], reference[:, generated.shape[1] :]], dim=1)


def _stacked(
    found: Sequence[Recording],
) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, "batch mels frames"]]:
    waves, mels = zip(*found, strict=True)
    return torch.stack(waves), torch.stack(mels)
