"""Every observer there is: each module of this package that declares `OBSERVERS`, name -> (option -> Observer)."""

import importlib
import pkgutil
from collections.abc import Callable

from toylab.observing.observer import Observer

NOT_FAMILIES = ("observer", "chosen", "discovery", "tracking")


def _discovered() -> dict[str, Callable[[int], Observer]]:
    package = __name__.rpartition(".")[0]
    found: dict[str, Callable[[int], Observer]] = {}
    for entry in sorted(pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda one: one.name):
        if entry.name in NOT_FAMILIES:
            continue
        declared = importlib.import_module(f"{package}.{entry.name}").OBSERVERS
        if repeated := found.keys() & declared:
            raise ImportError(f"two modules of observers declare {', '.join(sorted(repeated))}")
        found |= declared
    return found


OBSERVERS: dict[str, Callable[[int], Observer]] = _discovered()
