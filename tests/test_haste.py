"""Live sound stays near the lips on machines that are too slow, and only there something is left out."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_face_follower import IMAGE, Script, box
from test_model import make, tiny

from lipsound2.inference.pipeline import Pipeline
from lipsound2.live.camera import Camera, Shot
from lipsound2.live.haste import shorten
from lipsound2.live.lips import LipStream, Piece
from lipsound2.live.session import Pace, Session
from lipsound2.live.sound import SpeechStream
from lipsound2.vocoder import GriffinLim


class Film(Camera):
    """A camera in a time that goes on only by work and by waiting.

    Args:
        frames: How many it delivers.
    """

    def __init__(self, frames: int) -> None:
        super().__init__(25)
        self.coming = iter(range(frames))
        self.next = next(self.coming, None)
        self.now = 0.0

    def take(self, least: int, most: int | None = None) -> list[Shot]:
        while self.next is not None and (self.next / 25 <= self.now or len(self._waiting) < least):
            self.now = max(self.now, self.next / 25)
            self.put(self.next / 25, IMAGE, seen=self.next / 25)
            self.next = next(self.coming, None)
        if self.next is None:
            self.end()
        return super().take(least, most)


@pytest.fixture
def slowed(monkeypatch):
    """Make sessions that need so many seconds for a hop, at a time, and so many for a frame; nothing is computed."""

    def made(film: Film, hop: Callable[[float], float], frame: float, limit: float = 1.0):
        def push(self, views, ahead=None, again=0):
            new = views.shape[1] - again
            film.now += hop(film.now) + frame * new
            done, self.seen = self.done, self.seen + new
            self.done = max(done, self.seen - min(self.ahead, self.ahead if ahead is None else ahead))
            return Piece(torch.zeros(80, 4 * (self.done - done)), torch.zeros(80, 0))

        monkeypatch.setattr(LipStream, "push", push)
        monkeypatch.setattr(LipStream, "finish", lambda self: Piece(*torch.zeros(2, 80, 4 * (self.seen - self.done))))
        monkeypatch.setattr(SpeechStream, "push", lambda _, piece: torch.zeros(160 * piece.settled.shape[1]))
        config, heard = tiny(), []
        pipeline = Pipeline(make(config), GriffinLim(config.audio), Script([box(10, 5, 35)]))
        session = Session(pipeline, Pace(4, 6, limit), lambda wave, _: heard.append(wave), clock=lambda: film.now)
        film.now = 0.0  # warming up does not count
        return session, heard

    return made


@pytest.mark.parametrize(
    ("hop", "frame", "limit", "skips"),
    [(0.04, 0.02, 1.0, False), (0.2, 0.02, 1.0, False), (0.3, 0.06, 1.0, True), (0.2, 0.1, 1.5, True)],
)
def test_a_machine_that_is_too_slow_skips_frames_and_stays_near_the_lips(slowed, hop, frame, limit, skips):
    film = Film(750)
    session, heard = slowed(film, lambda _: hop, frame, limit)
    account = session.run(film)
    assert account.frames + film.dropped == 750
    assert (film.dropped > 0) == skips
    assert max(account.delays[5:-1]) <= limit + 0.05
    assert len(np.concatenate(heard)) == 640 * account.frames - round(16_000 * account.cut)


@pytest.mark.parametrize("pause", [0.7, 2.0])
def test_a_machine_that_was_slow_once_is_in_time_again(slowed, pause):
    film = Film(500)
    session, heard = slowed(film, lambda now: pause if 5 < now < 5.5 else 0.04, 0.02)
    account = session.run(film)
    assert account.delays[20] < 0.5
    assert pause < max(account.delays) < pause + 1
    assert account.delays[-5] < 0.6
    assert film.dropped > 0
    assert (account.cut > 0) == (pause < 1), "what is not heard in time is left out, as sound if not as frames"
    assert len(np.concatenate(heard)) == 640 * account.frames - round(16_000 * account.cut)


def test_no_machine_is_too_slow_to_stay_at_the_same_delay(slowed):
    film = Film(1500)
    session, _ = slowed(film, lambda _: 1.2, 0.05)
    account = session.run(film)
    assert max(account.delays[-20:-1]) <= max(account.delays[5:25]) + 0.01, "it is late, but not later and later"


def test_sound_is_shortened_where_it_is_heard_least():
    tone = np.sin(2 * np.pi * np.arange(2560) / 80).astype(np.float32)
    short = shorten(tone, 500)
    assert 2060 <= len(short) <= 2310
    assert np.abs(np.diff(short)).max() < 1.2 * np.abs(np.diff(tone)).max()
    assert (short[:40] == tone[:40]).all()
    assert (short[-40:] == tone[-40:]).all()
    assert shorten(tone, 50) is tone
    assert len(shorten(tone[:300], 250)) == 300
