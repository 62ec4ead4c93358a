"""Prepared clips -> speaker embeddings, the condition of a model that speaks in more than one voice."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import resample
from lipsound2.voice.encoder import DIM, RATE, embed

Embedding = Float[Tensor, f"{DIM}"]


class Voices:
    """Speaker embeddings of clips, each computed when it is first needed.

    A clip is conditioned on another clip of its speaker, so that the condition says nothing of the words.

    Args:
        speakers: Speaker of each clip.
        wave: Reads the audio of a clip.
        sample_rate: Of that audio, in Hz.
    """

    def __init__(
        self, speakers: Sequence[Hashable], wave: Callable[[int], Float[Tensor, " samples"]], sample_rate: int
    ) -> None:
        self._wave = wave
        self._sample_rate = sample_rate
        self._known: dict[int, Embedding] = {}
        of_speaker: dict[Hashable, list[int]] = {}
        for clip, speaker in enumerate(speakers):
            of_speaker.setdefault(speaker, []).append(clip)
        self._clips = [of_speaker[speaker] for speaker in speakers]
        self._places = {clip: place for clips in of_speaker.values() for place, clip in enumerate(clips)}

    def drawn(self, clip: int, rng: np.random.Generator) -> Embedding:
        """Return the embedding of a random other clip of the same speaker; of the clip itself if there is no other."""
        clips = self._clips[clip]
        return self._of(clips[(self._places[clip] + int(rng.integers(1, max(2, len(clips))))) % len(clips)])

    def following(self, clip: int) -> Embedding:
        """Return the embedding of the speaker's next clip, always the same one."""
        clips = self._clips[clip]
        return self._of(clips[(self._places[clip] + 1) % len(clips)])

    def _of(self, clip: int) -> Embedding:
        if clip not in self._known:
            wave = resample(self._wave(clip).cpu().numpy(), self._sample_rate, RATE)
            self._known[clip] = torch.from_numpy(embed(wave))
        return self._known[clip]
