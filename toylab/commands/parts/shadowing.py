"""Packages called `theory` or `figures` are common: notice when another one is found before ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from toylab.commands.parts.refusal import BadInput

OURS = ("theory", "figures")


def shadowed(names: tuple[str, ...] = OURS) -> list[str]:
    """One line for each of the names that Python would not import from the folder that holds toylab."""
    home = Path(__file__).resolve().parents[3]
    lines = []
    for name in names:
        location = _location(name)
        if location is None:
            lines.append(f"the package {name} is missing beside toylab in {home}")
        elif location != home / name:
            lines.append(f"the package {name} is found in {location}, which shadows the one of toylab in {home / name}")
    return lines


def require_own(name: str) -> None:
    """**Errors:** `BadInput` if importing `name` would give another package than the one installed with
    toylab.
    """
    for line in shadowed((name,)):
        raise BadInput(line, "run from another folder, or uninstall or rename the other package")


def _location(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin).resolve()
    return origin.parent if origin.name == "__init__.py" else origin
