"""Pieces of mel as they come -> sound without seams: Griffin-Lim that goes on where it stopped.

Each piece is vocoded with the mel before it, whose samples are known, and with the mel that may follow. What was made
of the latter fades into what is made of it once it is settled.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lipsound2.audio import griffin_lim
from lipsound2.config import AudioConfig
from lipsound2.live.lips import Mel, Piece

BEFORE = 10
"""Mel frames before a piece that are looked at."""
AFTER = 8
"""Mel frames after it that are looked at."""
FADE = 4
"""Mel frames over which a guess fades into what is settled."""

Samples = Float[Tensor, " samples"]


class SpeechStream:
    """The sound of a stream of mel.

    Args:
        audio: Settings of the mel.
        iterations: Of Griffin-Lim; since it goes on from samples that are known, few will do.
    """

    def __init__(self, audio: AudioConfig, iterations: int = 12) -> None:
        self.audio = audio
        self.iterations = iterations
        self._mel: Mel | None = None
        self._wave: Samples | None = None
        self._guess: Samples | None = None

    @torch.inference_mode()
    def push(self, piece: Piece) -> Samples:
        """Return the samples of what is settled."""
        hop, frames = self.audio.hop_length, piece.settled.shape[1]
        if not frames:
            return piece.settled.new_zeros(0)
        before = piece.settled[:, :0] if self._mel is None else self._mel
        mel = torch.cat([before, piece.settled, piece.provisional[:, :AFTER]], dim=1)
        start = before.shape[1] * hop
        made = self._made(mel, start)
        new = made[start : start + frames * hop].clone()
        self._guess = made[start + frames * hop :]
        self._mel = torch.cat([before, piece.settled], dim=1)[:, -BEFORE:]
        self._wave = torch.cat([made[:start] if self._wave is None else self._wave, new])[-BEFORE * hop :]
        return new

    def rest(self, frames: int) -> Samples:
        """Return so many mel frames of silence, into which the last guess fades."""
        silence = torch.zeros(frames * self.audio.hop_length)
        if self._guess is not None:
            fading = self._guess[: min(len(silence), FADE * self.audio.hop_length)]
            silence[: len(fading)] = fading.cpu() * torch.linspace(1, 0, len(fading))
        self._mel = self._wave = self._guess = None
        return silence

    def _made(self, mel: Mel, start: int) -> Samples:
        """Vocode, going on where the last guess fades out."""
        if self._wave is None or self._guess is None:
            return griffin_lim(mel[None], self.audio, self.iterations)[0]
        guess = self._guess[: FADE * self.audio.hop_length]
        known = torch.cat([self._wave, guess])
        made = griffin_lim(mel[None], self.audio, self.iterations, known=known[None])[0]
        rise = torch.linspace(0, 1, len(guess), device=made.device)
        faded = slice(start, start + len(guess))
        made[faded] = (1 - rise) * guess + rise * made[faded]
        return made
