"""Frames of a face as they come -> mel, a few frames later.

What was computed is kept: the convolutions' features of each frame, and the decoder's state. A few frames are waited
for, since lips are read by what comes after too; what comes after those is imagined by playing the features backwards,
so that the encoder does not take the present for the end of a clip. As in `inference.windows`, decoding begins anew
every `window - overlap` frames, which the model was trained for, and cross-fades with what was begun before.

    frames     ...|-- kept --|- new -|
    features   ...|----------|-------|  the last `reach` computed again once their surroundings are known
    memory     ...|-----------------------|- imagined -|
    mel        ...|- done -|- new -|- provisional -|
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lipsound2.model import LipSound2
from lipsound2.model.attention_decoder import AttentionDecoder, DecoderState
from lipsound2.model.memory import Memory

IMAGINED = 25
"""Frames that are imagined to follow."""
PROVISIONAL = 3
"""Frames of mel after those that are settled, for the postnet and the vocoder."""

Mel = Float[Tensor, "mels _"]
Features = Float[Tensor, "time features"]


class Piece(NamedTuple):
    """Log-mel of some frames, and what may follow."""

    settled: Mel
    provisional: Mel


class LipStream:
    """The mel of one face.

    Args:
        model: In evaluation mode.
        ahead: Frames that are waited for; more is better and later.
    """

    def __init__(self, model: LipSound2, ahead: int) -> None:
        self.model = model
        self.ahead = ahead
        self.seen = self.done = 0
        self._brightness = Brightness(model.config.window * model.config.video.size**2 * model.config.video.channels)
        self._recent: Float[Tensor, "channels time size size"] | None = None
        self._features: Features | None = None
        self._first = 0
        self._decodings: list[Decoding] = []

    @property
    def frame(self) -> int:
        """Mel frames of a video frame."""
        return self.model.config.audio.mel_frames(1, self.model.config.video.fps)

    @torch.inference_mode()
    def push(self, views: UInt8[Tensor, "channels time size size"], ahead: int | None = None, again: int = 0) -> Piece:
        """Take frames and return the mel of as many frames as are due.

        Args:
            views: The frames.
            ahead: Frames that are waited for this time, if fewer.
            again: How many of the frames replace the last ones that were taken, at most as many as are waited for.
        """
        self._look(self._brightness(views, again), again)
        waiting = self.ahead if ahead is None else min(self.ahead, ahead)
        return self._decode(max(self.done, self.seen - waiting), ended=False)

    @torch.inference_mode()
    def finish(self) -> Piece:
        """Return the mel of the frames that are left; nothing comes after."""
        return self._decode(self.seen, ended=True)

    def _look(self, video: Float[Tensor, "channels time size size"], again: int) -> None:
        """Compute the features of new frames, and anew those of the last ones before."""
        reach = self.model.encoder.reach
        recent = video
        if self._recent is not None:
            recent = torch.cat([self._recent[:, : self._recent.shape[1] - again], video], dim=1)
        before, self.seen = self.seen - again, self.seen - again + video.shape[1]
        features = self.model.encoder.features(recent[None], torch.tensor([recent.shape[1]]))[0]
        anew = max(self._first, before - reach)
        new = features[anew - self.seen + len(features) :]
        self._features = new if self._features is None else torch.cat([self._features[: anew - self._first], new])
        self._recent = recent[:, -2 * reach - self.ahead :]

    def _decode(self, target: int, ended: bool) -> Piece:
        config = self.model.config
        self._begin(target, ended)
        memory = self._memory(ended)
        pieces = [
            each.read(memory[:, each.start - self._first :], target, self.seen, ended) for each in self._decodings
        ]
        mel = _faded(pieces, [each.start for each in self._decodings], self.done, config.overlap, self.frame)
        settled = (target - self.done) * self.frame
        self.done = target
        # A decoding ends where the one after it is at its full strength.
        while len(self._decodings) > 1 and self._decodings[1].start + config.overlap <= target:
            del self._decodings[0]
        self._forget(self._decodings[0].start)
        return Piece(mel[:, :settled], mel[:, settled:])

    def _begin(self, target: int, ended: bool) -> None:
        """Begin the decodings that are due; for the rest of a stream that one covers, none."""
        config = self.model.config
        if not self._decodings:
            self._decodings.append(Decoding(self.model, 0))
        while (start := self._decodings[-1].start + config.window - config.overlap) < target:
            if ended and target - self._decodings[-1].start <= config.window:
                return
            self._decodings.append(Decoding(self.model, start))

    def _memory(self, ended: bool) -> Float[Tensor, "1 time dim"]:
        """Return the memory of all frames that are kept, with what is imagined to follow in mind."""
        assert self._features is not None
        known = following = self._features
        if not ended and len(known) > 1:
            swing = torch.cat([known.flip(0)[1:], known[1:]])
            following = torch.cat([known, swing[torch.arange(IMAGINED, device=known.device) % len(swing)]])
        memory = self.model.encoder.recall(following[None], torch.tensor([len(following)]))
        return memory[:, : len(known)]

    def _forget(self, first: int) -> None:
        assert self._features is not None
        self._features, self._first = self._features[first - self._first :], first


class Decoding:
    """Decodes from one frame on.

    Args:
        model: The model.
        start: The frame.
    """

    def __init__(self, model: LipSound2, start: int) -> None:
        self.model = model
        self.start = self.done = start
        self._state: DecoderState | None = None
        self._previous = torch.zeros(1, model.config.audio.n_mels, device=model.mel_mean.device)
        self._context: Mel | None = None

    def read(self, values: Float[Tensor, "1 time dim"], target: int, seen: int, ended: bool) -> Mel:
        """Return the log-mel from the last `target` to this one and, unless the stream has ended, a bit further.

        Args:
            values: Memory vectors from `start` on.
            target: Frame up to which mel is settled.
            seen: Frame up to which there are any.
            ended: Whether nothing follows.
        """
        further = target if ended else min(target + PROVISIONAL, seen)
        context = self._context
        new = self._decoded(Memory(values, torch.tensor([values.shape[1]])), target, further)
        whole = new if context is None else torch.cat([context, new], dim=1)
        kept = whole.shape[1] - new.shape[1]
        polished = self.model.polish(whole[None], torch.tensor([whole.shape[1]]))
        settled = (target - self.done) * (new.shape[1] // max(1, further - self.done))
        reach = self.model.config.postnet.layers * (self.model.config.postnet.width // 2)
        self._context = whole[:, : kept + settled][:, -reach:]
        self.done = target
        return self.model.denormalize(polished)[0, :, kept:]

    def _decoded(self, memory: Memory, target: int, further: int) -> Mel:
        """Return normalised mel from `done` to `further`, keeping the state at `target`."""
        decoder, frame = self.model.decoder, self.model.config.audio.mel_frames(1, self.model.config.video.fps)
        if not isinstance(decoder, AttentionDecoder) or decoder.frames_per_step != frame:
            mel = self.model.decode(memory).mel[0]
            return mel[:, (self.done - self.start) * frame : (further - self.start) * frame]
        sought = decoder.attention.prepare(memory.values, memory.mask())
        state = _grown(self._state, memory) if self._state else decoder.initial_state(sought)
        previous, mels = self._previous, [memory.values.new_zeros(1, self._previous.shape[1], 0)]
        for step in range(self.done, further):
            if step == target:
                self._state, self._previous = state, previous
            mel, state = decoder.step(decoder.prenet(previous), sought, state)
            previous = mel[:, :, -1]
            mels.append(mel)
        if further == target:
            self._state, self._previous = state, previous
        return torch.cat(mels, dim=-1)[0]


class Brightness:
    """Scales pixels to zero mean and unit variance over so many of the last ones, as `preprocess.standardize` does."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._count = self._sum = self._squares = 0.0

    def __call__(
        self, views: UInt8[Tensor, "channels time size size"], again: int = 0
    ) -> Float[Tensor, "channels time size size"]:
        """Return pixels, scaled; those of the first `again` frames are not new."""
        pixels = views.float()
        new = pixels[:, again:]
        kept = min(1.0, self._memory / (self._count + new.numel()))
        self._count = kept * self._count + new.numel()
        self._sum = kept * self._sum + float(new.sum())
        self._squares = kept * self._squares + float(new.square().sum())
        mean = self._sum / self._count
        return (pixels - mean) / max(1.0, self._squares / self._count - mean**2) ** 0.5


def _grown(state: DecoderState, memory: Memory) -> DecoderState:
    """Return a state whose attention covers a memory that has become longer."""

    def grown(weights: Float[Tensor, "1 _"]) -> Float[Tensor, "1 _"]:
        return torch.nn.functional.pad(weights, (0, memory.values.shape[1] - weights.shape[1]))

    return state._replace(weights=grown(state.weights), cumulative=grown(state.cumulative))


def _faded(pieces: list[Mel], starts: list[int], done: int, overlap: int, frame: int) -> Mel:
    """Join mels that end together: each decoding but the first gains weight over `overlap` frames from its start."""
    joined = pieces[0]
    for piece, start in zip(pieces[1:], starts[1:], strict=True):
        length = piece.shape[1]
        if not length:
            continue
        first = (max(done, start) - start) * frame
        rise = ((torch.arange(length, device=piece.device) + first + 1) / (overlap * frame)).clamp(max=1)
        mixed = joined[:, -length:] * (1 - rise) + piece * rise
        joined = torch.cat([joined[:, :-length], mixed], dim=1)
    return joined
