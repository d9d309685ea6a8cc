"""A time limit for derivations: SymPy can run away, and a clear message beats a hanging terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from theory.errors import DerivationTimeout

AGAIN = 1.0
"""Seconds between two attempts to stop the same derivation."""


@contextmanager
def time_limited(seconds: float) -> Generator[None]:
    """Raise `DerivationTimeout` in this block after ``seconds``; without effect outside the main thread.

    The error is raised again every second: the first is lost where it falls into code that catches everything, or into
    a callback of the garbage collector.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_signal: int, _frame: Any) -> None:
        raise DerivationTimeout(f"the derivation was not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
