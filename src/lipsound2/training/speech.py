"""Prepared or generated clips with transcripts -> batches of audio and symbols."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.utils.data import Dataset

from lipsound2.corpora.clip import spread
from lipsound2.data.cache import ClipCache
from lipsound2.data.dataset import Place, choose_entries, without_clips
from lipsound2.data.shards import Entry, read_wave
from lipsound2.errors import DataError
from lipsound2.text.alphabet import Alphabet
from lipsound2.training.augment import SpeechAugmentConfig, Wave, add_noise, only_noise, vary_speed


class Utterance(NamedTuple):
    """One clip: its audio and its transcript as symbols."""

    key: str
    wave: Float[Tensor, " samples"]
    symbols: Int[Tensor, " symbols"]


class SpeechBatch(NamedTuple):
    """Utterances padded to the longest."""

    keys: list[str]
    wave: Float[Tensor, "batch samples"]
    wave_lengths: Int[Tensor, " batch"]
    symbols: Int[Tensor, "batch symbols"]
    symbol_lengths: Int[Tensor, " batch"]


class SpeechDataset(Dataset[Utterance]):
    """Clips with transcripts of one split of one or more folders, of reference or generated speech.

    Args:
        folders: What `lipsound2 prepare` wrote, or generated speech.
        split: `train`, `val` or `test`.
        alphabet: Of the transcripts.
        sample_rate: Required sample rate.
        augment: Augmentation of the audio; None for none.
        seed: Random seed of the augmentation, combined with epoch and index.
        speakers: Speakers whose clips are used; empty takes all.
        clips: Number of training clips of each folder, spread evenly; 0 takes all.
        cache_gb: Memory in GB for decoded audio.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        split: str,
        alphabet: Alphabet,
        sample_rate: int,
        augment: SpeechAugmentConfig | None = None,
        seed: int = 0,
        speakers: Sequence[str] = (),
        clips: int = 0,
        cache_gb: float = 2.0,
    ) -> None:
        self.alphabet = alphabet
        self.augment = augment
        self.seed = seed
        self.places = [
            (folder, entry) for folder in folders for entry in speech_entries(folder, split, speakers, clips)
        ]
        for folder, entry in self.places:
            _check_rate(folder, entry, sample_rate)
        self._cache = ClipCache[tuple[Tensor]](cache_gb)
        self.texts = [alphabet.clean(str(entry.meta["transcript"])) for _, entry in self.places]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Place) -> Utterance:
        key, wave, text = self.places[place.clip][1].key, self.wave(place.clip), self.texts[place.clip]
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, place.epoch, place.clip])
            wave, text = _varied(wave, text, self.augment, rng)
        symbols = torch.tensor(self.alphabet.encode(text), dtype=torch.long)
        return Utterance(key, torch.from_numpy(wave), symbols)

    def wave(self, index: int) -> Wave:
        """Return a clip's audio."""
        return self._cache.get(index, self._decode)[0].numpy()

    def _decode(self, index: int) -> tuple[Tensor]:
        return (torch.from_numpy(read_wave(*self.places[index])),)

    def sentences(self) -> list[list[str]]:
        """Return the words of each clip, once for its reference and its generated speech."""
        texts = {entry.key: text for (_, entry), text in zip(self.places, self.texts, strict=True)}
        return [self.alphabet.words(text) for text in texts.values()]


def collate(utterances: Sequence[Utterance]) -> SpeechBatch:
    """Pad utterances to the longest and stack them."""
    keys, waves, symbols = zip(*utterances, strict=True)
    pad = torch.nn.utils.rnn.pad_sequence
    return SpeechBatch(
        list(keys),
        pad(list(waves), batch_first=True),
        torch.tensor([len(wave) for wave in waves]),
        pad(list(symbols), batch_first=True),
        torch.tensor([len(text) for text in symbols]),
    )


def speech_entries(folder: Path, split: str, speakers: Sequence[str] = (), clips: int = 0) -> list[Entry]:
    """List the clips of a split that have a transcript.

    Args:
        folder: What `lipsound2 prepare` wrote, or generated speech.
        split: `train`, `val` or `test`, as in `choose_entries`.
        speakers: Speakers whose clips are used; empty takes all.
        clips: Number of training clips, spread evenly; 0 takes all.

    Raises:
        DataError: There is none.
    """
    found = [entry for entry in choose_entries(folder, split, speakers) if entry.meta.get("transcript")]
    if not found:
        raise without_clips(folder, split, speakers, " with a transcript")
    return spread(found, clips) if split == "train" else found


def _check_rate(folder: Path, entry: Entry, sample_rate: int) -> None:
    if entry.meta["sample_rate"] != sample_rate:
        raise DataError(
            f"{folder} holds audio of {entry.meta['sample_rate']} Hz, the recogniser takes {sample_rate} Hz",
            "prepare clips, and choose a pack, of the recogniser's sample rate",
        )


def _varied(
    wave: Wave, text: str, config: SpeechAugmentConfig, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, " newsamples"], str]:
    wave = vary_speed(wave, rng.uniform(1 - config.speed, 1 + config.speed))
    if rng.random() < config.empty:
        return only_noise(len(wave), rng), ""
    return (add_noise(wave, config, rng) if rng.random() < config.noise else wave), text
