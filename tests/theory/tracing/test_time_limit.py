"""The time limit of derivations."""

import contextlib
import signal
import time

import pytest

from theory.errors import DerivationTimeout
from theory.tracing import time_limit as timing


def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def swallowing():
    with contextlib.suppress(Exception):
        busy(60)
    busy(60)


def limited():
    with timing.time_limited(0.05):
        swallowing()


def test_code_that_catches_everything_is_stopped_the_next_time(monkeypatch):
    monkeypatch.setattr(timing, "AGAIN", 0.05)
    with pytest.raises(DerivationTimeout, match=r"0\.05 s"):
        limited()


def test_what_is_done_in_time_is_left_alone():
    with timing.time_limited(5):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
