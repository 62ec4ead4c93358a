import pytest

from lipsound2.runtime.pace import Pace, pacing


def test_what_an_earlier_run_did_counts_for_nothing():
    now = iter([100.0, 100.0, 110.0])
    measured = Pace(lambda: next(now))
    measured.look(40, 100, 12.0)
    assert measured.left == ""
    measured.look(60, 100, 72.0)
    assert measured.rates == "2 clips/s, 6 video hours/h"
    assert measured.left == "0:00:20 left"
    assert measured.summary == "20 clips in 0:00:10: 2 clips/s, 6 video hours/h"


def test_a_log_gets_a_line_a_minute_and_one_at_the_end(capsys):
    now = [0.0]
    with pacing("preparing", lambda: now[0]) as update:
        update(0, 3, 0.0)
        for done, now[0] in ((1, 40.0), (2, 80.0), (3, 90.0)):
            update(done, 3, 8.0 * done)
    assert capsys.readouterr().err.splitlines() == [
        "preparing: 2 of 3 clips, 0.025 clips/s, 0.2 video hours/h, 0:00:40 left",
        "preparing: 3 clips in 0:01:30: 0.0333 clips/s, 0.267 video hours/h",
    ]


def test_nothing_is_said_of_work_that_was_done_before(capsys):
    with pacing("preparing") as update:
        update(3, 3, 0.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("done", [0, 3])
def test_no_time_is_told_before_the_first_clip_and_after_the_last(done):
    measured = Pace(lambda: 0.0)
    measured.look(0, 3, 0.0)
    measured.look(done, 3, 0.0)
    assert measured.left == ""
