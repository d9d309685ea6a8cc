"""Input that cannot be used: one line that says what was got and needed, one that says what to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """Ends a command with exit code 2. `message`: what was got and what was needed; `hint`: what to try."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean X?` for the known name most like `name`, else the other hint."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else otherwise
