"""The problems that come with the laboratory. One file each: a module of this package whose module-level
`PROBLEMS` maps names to functions returning a `Problem` is found by itself, and its functions become
attributes here."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from toylab.problems.problem import Problem


def _discover() -> dict[str, Callable[..., Problem]]:
    found: dict[str, Callable[..., Problem]] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        declared = getattr(importlib.import_module(f"{__name__}.{module}"), "PROBLEMS", {})
        for name, build in declared.items():
            if name in found:
                raise ImportError(
                    f"two problem modules declare {name!r}: {found[name].__module__} and {build.__module__}"
                )
            found[name] = build
    return found


NAMED: dict[str, Callable[..., Problem]] = _discover()


def __getattr__(name: str) -> Any:
    if name in NAMED:
        return NAMED[name]
    raise AttributeError(f"no problem is called {name!r}; there are {', '.join(NAMED)}")


def __dir__() -> list[str]:
    return [*NAMED, "NAMED", "Problem"]


__all__ = ["NAMED", "Problem"]
