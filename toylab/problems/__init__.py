"""The problems that come with the laboratory. One file each: a module of this package whose module-level `PROBLEMS`
maps names to functions returning a `Problem` needs no other registration: its functions become attributes here, and
entries of `problems.NAMED`.

Example:
    >>> import toylab
    >>> problem = toylab.problems.quadratic([1.0, 3.0])
    >>> round(float(problem.value(problem.params)), 6)  # half the sum of the eigenvalues: the start is (1, 1)
    2.0
    >>> "digits_mlp" in toylab.problems.NAMED
    True
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from toylab.discovery import DiscoveryError, merged
from toylab.problems.problem import Problem

PARTS = ("problem", "coefficients", "criteria", "supervised")
"""The modules that every problem is made of, which declare none."""


@cache
def _named() -> dict[str, Callable[..., Problem]]:
    found = merged(__name__, "PROBLEMS")
    for name, build in found.items():
        if f"{__name__}.{name}" == build.__module__:
            raise DiscoveryError(
                f"{inspect.getfile(build)} declares a problem that has the module's own name",
                "the module would hide it: give the file another name",
            )
    return found


def __getattr__(name: str) -> Any:
    if name == "NAMED":  # name -> function that returns the problem; the files are read at the first call
        return _named()
    if not name.startswith("__") and name in _named():
        return _named()[name]
    raise AttributeError(f"no problem is called {name!r}; there are {', '.join(_named())}")


def __dir__() -> list[str]:
    return [*_named(), "NAMED", "Problem"]


__all__ = ["NAMED", "Problem"]
