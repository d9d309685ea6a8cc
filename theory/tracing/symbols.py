"""Hyperparameters of a factory as SymPy symbols: names, domains and reference values.

learning_rate -> eta, b1 or momentum -> beta1, b2 or decay -> beta2, b3 -> beta3, weight_decay -> omega,
eps -> epsilon, others keep their name; a trailing ``_`` where ``sympy.sympify`` would read something else.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp

from theory.errors import BadFactory

_NAMES = {
    "learning_rate": "eta",
    "lr": "eta",
    "step_size": "eta",
    "b1": "beta1",
    "momentum": "beta1",
    "beta1": "beta1",
    "b2": "beta2",
    "decay": "beta2",
    "beta2": "beta2",
    "b3": "beta3",
    "weight_decay": "omega",
    "eps": "epsilon",
    "eps_root": "epsilon_root",
}
MEMORY = (0.001, 0.99)
"""Domain of averaging constants; at 0 itself some rules degenerate (AdaBelief's second moment, schedule-free's mix)."""

T = sp.Symbol("t", integer=True, positive=True)
"""The step number, counted from 1."""

_RESERVED = {"w", "g", "z", "k", "t", "P", "H"}
_REFERENCE = {"eta": sp.Rational(1, 10), "beta1": sp.Rational(9, 10), "beta2": sp.Rational(99, 100)}


def symbol_name(name: str) -> str:
    """A name that plain `sympy.sympify` reads back as a symbol."""
    name = re.sub(r"\W", "_", name)
    if re.match(r"^\d", name):
        name = "_" + name
    try:
        plain = isinstance(sp.sympify(name), sp.Symbol)
    except Exception:  # noqa: BLE001 - sympify raises many kinds for Python keywords and SymPy names
        plain = False
    return name if plain else name + "_"


def name_of(path: tuple) -> str:
    """A readable name for a state leaf from its path: the last attribute or key that is a word."""
    for key in reversed(path):
        for attribute in ("name", "key"):
            value = getattr(key, attribute, None)
            if isinstance(value, str):
                return value
    return "s"


@dataclass(frozen=True)
class Hyperparameters:
    """parameter -> symbol, its reference number, its domain (lo, hi); what is fixed; the step, if it is held."""

    symbols: dict[str, sp.Symbol]
    reference: dict[str, Any]
    domain: dict[str, tuple[float, float]]
    fixed: dict[str, Any]
    t: int | None = None

    @property
    def learning_rate(self) -> str | None:
        """Name of the parameter that is the learning rate, None if there is none."""
        return next((n for n, s in self.symbols.items() if s.name == "eta"), None)

    @property
    def eta(self) -> sp.Expr:
        """The learning rate's symbol, 1 if there is none."""
        return self.symbols[self.learning_rate] if self.learning_rate else sp.Integer(1)

    @property
    def eps(self) -> list[sp.Symbol]:
        """Symbols of the regularisers eps."""
        return [s for n, s in self.symbols.items() if n.startswith("eps")]

    def values(self, **numbers: Any) -> dict[sp.Symbol, sp.Expr]:
        """symbol -> number, the reference where none is given."""
        return {s: sp.Rational(str(numbers.get(n, self.reference[n]))) for n, s in self.symbols.items()}

    def check(self, **numbers: float) -> None:
        """Raise `BadFactory` for numbers that no rule takes."""
        for name, value in numbers.items():
            memory = name in self.domain and self.domain[name] == MEMORY
            if not math.isfinite(value):
                raise BadFactory(f"got {name} = {value}, a finite number was needed")
            if name == self.learning_rate and value <= 0:
                raise BadFactory(f"got {name} = {value}, a positive number was needed")
            if memory and not 0 <= value < 1:
                raise BadFactory(f"got {name} = {value}, a number in [0, 1) was needed")
            if name == "t" and value < 1:
                raise BadFactory(f"got t = {value}, a step counted from 1 was needed")

    def numbers(self, **numbers: Any) -> dict[sp.Symbol, sp.Expr]:
        """`values`, and the step number where it is held."""
        step = numbers.pop("t", self.t)
        return self.values(**numbers) | ({} if step is None else {T: sp.Integer(step)})

    @property
    def listed(self) -> dict[str, sp.Symbol]:
        """The symbols of a theorem: the hyperparameters', and t where it is held."""
        return self.symbols | ({} if self.t is None else {"t": T})

    def fix(self, name: str) -> Hyperparameters:
        """The same with ``name`` fixed to its reference number."""

        def without(d: dict) -> dict:
            return {n: v for n, v in d.items() if n != name}

        fixed = {**self.fixed, name: float(self.reference[name])}
        return replace(
            self,
            symbols=without(self.symbols),
            reference=without(self.reference),
            domain=without(self.domain),
            fixed=fixed,
        )


def hyperparameters(factory: Callable, settings: dict[str, Any]) -> Hyperparameters:
    """Numeric parameters of ``factory`` become symbols; everything else keeps its default.

    A parameter becomes a symbol if it has a float default, has no default, or is given a float in ``settings`` (which
    then is its reference value).  Integers, booleans, strings and None are structure: they stay as they are.  An
    ``eps`` whose default is 0 is switched off and stays so unless set.
    """
    if not callable(factory):
        raise BadFactory(f"got {type(factory).__name__}, a factory (a function of hyperparameters) was needed")
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError) as error:
        raise BadFactory(f"the factory {factory!r} has no readable signature") from error
    named = {n: p for n, p in signature.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [n for n in settings if n not in named]
    if unknown and not open_ended:
        raise BadFactory(f"the factory has no parameter '{unknown[0]}'; it has {', '.join(named) or 'none'}")
    symbols: dict[str, sp.Symbol] = {}
    reference: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    taken: set[str] = set()
    for name in [*named, *unknown]:
        default = named[name].default if name in named else inspect.Parameter.empty
        value = settings.get(name, default)
        required = value is inspect.Parameter.empty or (value is None and _NAMES.get(name) == "eta")
        numeric = (
            required
            or isinstance(value, float)
            or (isinstance(value, int) and not isinstance(value, bool) and _NAMES.get(name) is not None)
        )
        switched_off = name.startswith("eps") and not required and value == 0 and name not in settings
        if isinstance(value, str) and (default is inspect.Parameter.empty or isinstance(default, float)):
            raise BadFactory(f"got {name} = {value!r}, a number was needed")
        if not numeric or switched_off:
            if name in settings or named[name].kind is inspect.Parameter.POSITIONAL_ONLY:
                fixed[name] = value
            continue
        symbol = symbol_name(_NAMES.get(name, name))
        if symbol in taken or symbol in _RESERVED:
            symbol += "_"
        if not required and not math.isfinite(value):
            raise BadFactory(f"got {name} = {value}, a finite number was needed")
        taken.add(symbol)
        symbols[name] = sp.Symbol(symbol, positive=True)
        reference[name] = _REFERENCE.get(symbol, sp.Rational(1, 2)) if required else sp.nsimplify(value, rational=True)
    if not symbols:
        raise BadFactory(
            "the factory has no numeric hyperparameter to derive a threshold in",
            "give it at least a learning_rate, for example `def rule(learning_rate): ...`",
        )
    domain = {n: _domain(n, s.name, reference[n]) for n, s in symbols.items()}
    for name in symbols:  # an averaging constant by its own default stays one, whatever it is set to
        default = named[name].default if name in named else None
        if isinstance(default, float) and _domain(name, symbols[name].name, default) == MEMORY:
            domain[name] = MEMORY
    parameters = Hyperparameters(symbols, reference, domain, fixed)
    parameters.check(**{n: settings[n] for n in settings if n in symbols})
    return parameters


def _domain(name: str, symbol: str, reference: Any) -> tuple[float, float]:
    """Where random values of a hyperparameter are drawn: [0, 1) for averaging constants, a box around others."""
    value = float(reference)
    if symbol == "eta":
        return (1e-3, 1.0)
    if name.startswith("eps"):
        return (1e-12, 1e-6)
    if symbol == "omega":
        return (0.0, 0.1)
    averages = re.fullmatch(r"b\d*|beta\d*_?|momentum|.*decay(_rate)?", name)
    if (averages and 0 <= value < 1) or 0.5 <= value < 1:
        return MEMORY
    return (value / 4, value * 4) if value > 0 else (0.0, 1.0) if value == 0 else (value * 4, value / 4)
