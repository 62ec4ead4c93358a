import random
from itertools import pairwise

import pytest
import torch

from lipsound2.runtime.windows import cores, cut, evenly, striding, windows


def test_windows_spread_evenly_cover_everything():
    for frames in range(1, 300):
        starts = evenly(frames, 75, 25)
        size = min(75, frames)
        assert starts[0] == 0
        assert starts[-1] + size == frames
        assert all(0 < b - a <= 50 for a, b in pairwise(starts))
    with pytest.raises(ValueError, match="overlap"):
        evenly(10, 5, 5)


def test_striding_windows_share_what_they_should_and_reach_the_end():
    for length in range(40):
        starts = striding(length, 10, 3)
        assert starts[0] == 0
        assert starts.step == 7
        assert starts[-1] + 10 >= length
        assert len(starts) == 1 or starts[-1] + 3 < length, "a window adds something"


def test_cores_follow_each_other_and_see_their_context():
    for length in range(1, 40):
        found = list(cores(length, 7, 2))
        assert [place for core in found for place in range(core.start, core.stop)] == list(range(length))
        assert all(core.first == max(0, core.start - 2) for core in found)
        assert all(core.last == min(length, core.stop + 2) for core in found)
    assert list(cores(0, 7, 2)) == [(0, 0, 0, 0)]


def test_a_stream_is_cut_where_the_whole_would_be():
    rng = random.Random(0)
    for length in range(1, 40):
        whole = torch.arange(2 * length).reshape(2, length).float()
        sizes = []
        while sum(sizes) < length:
            sizes.append(rng.randint(0, length - sum(sizes)))
        found = list(windows(whole.split(sizes, dim=1), 7, 2))
        for excerpt, core in zip(found, cores(length, 7, 2), strict=True):
            assert torch.equal(excerpt.columns, whole[:, core.first : core.last])
            assert (excerpt.core.start + core.first, excerpt.core.stop + core.first) == (core.start, core.stop)
    assert list(windows([], 7, 2)) == []


def test_a_stream_is_held_no_longer_than_a_window_needs():
    taken = []
    stream = (taken.append(number) or number for number in range(20))
    found = [(start, list(items), len(taken)) for start, items in cut(stream, evenly(20, 8, 2), 8)]
    assert found == [(0, list(range(8)), 8), (6, list(range(6, 14)), 14), (12, list(range(12, 20)), 20)]
