"""A theorem's formulas as NumPy functions, compiled once: for tests that call them with many numbers."""

from collections.abc import Callable
from typing import Any

import sympy as sp

_COMPILED: dict[tuple[int, str], tuple[Any, Callable]] = {}


def formula(theorem: Any, name: str) -> Callable:
    """As `Theorem.numeric`, in NumPy; the theorem is kept, so that its id stays its own."""
    key = id(theorem), name
    if key not in _COMPILED:
        expression = theorem.expressions[name]
        used = {n: s for n, s in theorem.arguments.items() if s in expression.free_symbols}
        compiled = sp.lambdify(list(used.values()), expression, modules="numpy", cse=True)
        _COMPILED[key] = theorem, lambda **values: compiled(*(values[n] for n in used))
    return _COMPILED[key][1]
