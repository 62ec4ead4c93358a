"""A camera -> sound and captions while one speaks, and an account of how late they were."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from math import inf
from statistics import median

import numpy as np
import torch
from jaxtyping import Float32

from lipsound2.errors import ConfigError
from lipsound2.inference.pipeline import Pipeline
from lipsound2.live.camera import Camera, Shot
from lipsound2.live.captions import Captions
from lipsound2.live.face import FaceFollower, Recent
from lipsound2.live.haste import Haste
from lipsound2.live.lips import LipStream
from lipsound2.live.sound import Samples, SpeechStream
from lipsound2.model import LipSound2
from lipsound2.model.preprocess import view_of
from lipsound2.vocoder import GriffinLim

MOST = 25
"""Frames that are spoken at once, at most."""
KEPT = 5000
"""Hops of which times are kept."""


@dataclass(frozen=True)
class Pace:
    """How soon sound is wanted.

    Attributes:
        hop: Frames that are worked on at once, at least; on slow machines as many as have come meanwhile.
        ahead: Frames that are waited for before lips are read.
        limit: Seconds from lips to sound that are tolerated; a machine that is too slow for it skips frames.
    """

    hop: int = 4
    ahead: int = 9
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.hop <= MOST:
            raise ConfigError(f"a hop of 1 to {MOST} frames was expected, got {self.hop}")
        if not 1 <= self.ahead <= 50:
            raise ConfigError(f"1 to 50 frames to wait for were expected, got {self.ahead}")
        if not 0.1 <= self.limit <= 10:
            raise ConfigError(f"a limit of 0.1 to 10 seconds was expected, got {self.limit}")


@dataclass
class Account:
    """What happened so far.

    Attributes:
        frames: Frames that were worked on.
        faces: Of these, frames with a face.
        hops: Times that work was done.
        delays: Of each hop, seconds from when its first frame was seen until its sound is heard.
        work: Seconds of computing of each hop.
        gaps: Seconds in which there was nothing to be heard, since sound came too late.
        cut: Seconds of sound that were left out to be in time again.
    """

    frames: int = 0
    faces: int = 0
    hops: int = 0
    delays: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    gaps: float = 0.0
    cut: float = 0.0

    def note(self, delay: float, work: float) -> None:
        """Note a hop; of very many the last count."""
        self.hops += 1
        self.delays.append(delay)
        self.work.append(work)
        del self.delays[:-KEPT], self.work[:-KEPT]

    def facts(self) -> dict[str, int | float]:
        """Return the account as plain data; times in seconds."""
        counts: dict[str, int | float] = {
            "frames": self.frames,
            "faces": self.faces,
            "hops": self.hops,
            "gaps": round(self.gaps, 3),
            "cut": round(self.cut, 3),
        }
        if not self.delays:
            return counts
        delays = sorted(self.delays)
        late = delays[min(len(delays) - 1, int(0.95 * len(delays)))]
        told = {"delay": median(delays), "delay_95": late, "delay_most": delays[-1], "work": median(self.work)}
        return counts | {name: round(value, 3) for name, value in told.items()}

    def __str__(self) -> str:
        told = self.facts()
        text = f"{self.frames} frames, {self.faces} with a face"
        if "delay" not in told:
            return text
        return (
            f"{text}; lips to sound {told['delay']:.2f} s (median), {told['delay_95']:.2f} s (95 %); "
            f"{1000 * told['work']:.0f} ms of work a hop; {self.gaps:.1f} s of gaps, {self.cut:.1f} s cut"
        )


class Session:
    """Speaks what one face says.

    Args:
        pipeline: Pack and detector; its vocoder has to be Griffin-Lim.
        pace: How soon.
        hear: Is given each piece of sound, in [-1, 1], and when its first frame was seen, by `time.monotonic`.
        captions: Reads the sound, if words are wanted.
        clock: The time in seconds, as frames are stamped with.

    Raises:
        ConfigError: The vocoder cannot do this.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        pace: Pace,
        hear: Callable[[Float32[np.ndarray, " samples"], float], None],
        captions: Captions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(pipeline.vocoder, GriffinLim):
            raise ConfigError(f"{pipeline.vocoder.name} cannot speak live", "use --vocoder griffin-lim")
        if not isinstance(pipeline.model, LipSound2) or pipeline.model.config.condition_dim:
            raise ConfigError(
                f"{pipeline.name or 'the model'} cannot speak live", "choose a pack of one voice, not exported"
            )
        self.model = pipeline.model
        self.pace = pace
        self.hear = hear
        self.captions = captions
        self.clock = clock
        self.account = Account()
        self._haste = Haste(self.model.config.video.fps, pace.hop, pace.limit)
        self._device = self.model.device
        self._follower = FaceFollower(pipeline.detector, self.model.config.video.fps, pace.ahead + MOST)
        self._lips: LipStream | None = None
        self._sound = SpeechStream(self.model.config.audio)
        self._due: list[float] = []
        self._heard = 0.0
        self._warm()

    def _warm(self) -> None:
        """Compute something before anybody waits for it: the first time takes several times as long as the next."""
        video = self.model.config.video
        views = torch.zeros(video.channels, self.pace.ahead + self.pace.hop, video.size, video.size, dtype=torch.uint8)
        sound = SpeechStream(self.model.config.audio)
        lips = LipStream(self.model, self.pace.ahead)
        sound.push(lips.push(views.to(self._device)))
        began = self.clock()
        sound.push(lips.push(views[:, : self.pace.hop].to(self._device)))
        self._haste.worked(self.pace.hop, self.clock() - began)

    @property
    def face(self) -> bool:
        """Return whether a face is seen."""
        return self._lips is not None

    def run(self, camera: Camera) -> Account:
        """Speak until the camera ends.

        Raises:
            LipSoundError: As the camera ended.
        """
        if camera.patient:
            self._haste.limit = inf
        while shots := camera.take(self.pace.hop, self._haste.most):
            self.step(shots)
        self._leave()
        if self.captions:
            self.captions.finish()
        if camera.error:
            raise camera.error
        return self.account

    def step(self, shots: list[Shot]) -> None:
        """Work on some frames."""
        began = self.clock()
        self.account.frames += len(shots)
        self._due += [shot.time for shot in shots]
        for start in range(0, len(shots), MOST):
            self._take(shots[start : start + MOST], began)
        self._haste.worked(len(shots), self.clock() - began)

    def _take(self, shots: list[Shot], began: float) -> None:
        """Speak, or be silent, for each run of frames with the same face or none."""
        seen = [self._follower(shot.image) for shot in shots]
        for _, group in groupby(seen, lambda recent: None if recent is None else recent.first):
            *others, last = group
            if last is None:
                self._leave()
                self._rest(len(others) + 1, began)
            else:
                self._speak(last, len(others) + 1, began)

    def _speak(self, recent: Recent, new: int, began: float) -> None:
        """Speak new frames of a face; those that were waited for are seen again, since it is clearer where it was."""
        self.account.faces += new
        if self._lips is None:
            self._lips = LipStream(self.model, self.pace.ahead)
        again = min(self.pace.ahead, len(recent.pictures) - new, self._lips.seen)
        views = [view_of(crop, self.model.config.video).to(self._device) for crop in recent.crops(again + new)]
        ages = [began - seen for seen in self._due[-self.pace.ahead :]]
        mel = self._lips.push(torch.cat(views, dim=1), self._haste.patience(ages), again)
        self._emit(self._sound.push(mel), began)

    def _leave(self) -> None:
        """Speak what is left of a face that is gone."""
        if self._lips is not None:
            lips, self._lips = self._lips, None
            self._emit(self._sound.push(lips.finish()), self.clock())

    def _rest(self, frames: int, began: float) -> None:
        audio = self.model.config.audio
        self._emit(self._sound.rest(audio.mel_frames(frames, self.model.config.video.fps)), began)

    def _emit(self, samples: Samples, began: float) -> None:
        """Let samples be heard, and note how late they are."""
        wave = samples.clamp(-1, 1).cpu().numpy()
        if not len(wave):
            return
        audio, fps = self.model.config.audio, self.model.config.video.fps
        frames = len(wave) * fps // audio.sample_rate
        short = self._haste.shortened(wave, self._heard - self.clock(), audio.sample_rate)
        self.account.cut += (len(wave) - len(short)) / audio.sample_rate
        self.hear(short, self._due[0])
        now = self.clock()
        start = max(now, self._heard)
        if self._heard:
            self.account.gaps += max(0.0, now - self._heard)
        self._heard = start + len(short) / audio.sample_rate
        self.account.note(start - self._due[0], now - began)
        del self._due[:frames]
        if self.captions:
            self.captions.push(short)
