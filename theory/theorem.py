"""The result of a derivation: a statement, its assumptions, its source, its formulas, and their JAX functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sympy as sp


@dataclass(frozen=True)
class Theorem:
    """A derived statement.

    statement    one sentence in words and symbols
    assumptions  the conditions under which it holds
    source       the code, or the paper and equation, that it was derived from
    expressions  name -> SymPy expression, the formulas of the theorem
    arguments    parameter name -> symbol, the arguments of `numeric`

    Example:
        >>> import optax, theory
        >>> theorem = theory.edge(optax.sgd, momentum=0.9)
        >>> print(theorem.statement)
        sgd loses stability by a flip where lambda_max(P^-1 H) = 2*(beta1 + 1)/eta
        >>> print(theorem.expressions["gain_nyquist"], theorem.arguments["momentum"])
        1/(beta1 + 1) beta1
        >>> round(float(theorem.numeric("threshold")(learning_rate=0.1, momentum=0.5)), 4)
        30.0
    """

    statement: str
    assumptions: tuple[str, ...]
    source: str
    expressions: Mapping[str, sp.Basic]
    arguments: Mapping[str, sp.Symbol]

    def latex(self) -> str:
        """The formulas as LaTeX, one line each."""
        return "\n".join(f"{name.replace('_', ' ')}: {sp.latex(value)}" for name, value in self.expressions.items())

    def numeric(self, name: str) -> Callable:
        """The formula ``name`` as a JAX function of the hyperparameters (keywords); jits, vmaps and differentiates."""
        return as_jax(self.expressions[name], self.arguments)


def as_jax(expression: sp.Basic, arguments: Mapping[str, sp.Symbol]) -> Callable:
    """``f(**arguments)`` in JAX.  Sub-expressions are shared; keywords that do not occur may be left out."""
    used = {name: symbol for name, symbol in arguments.items() if symbol in expression.free_symbols}
    compiled = sp.lambdify(list(used.values()), expression, modules="jax", cse=True)

    def function(**values: float) -> object:
        missing = [name for name in used if name not in values]
        if missing:
            raise TypeError(f"got {', '.join(values) or 'nothing'}; the formula needs {', '.join(missing)} as well")
        return compiled(*(values[name] for name in used))

    return function
