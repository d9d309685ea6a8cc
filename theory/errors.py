"""Why a derivation is refused.  A refusal is an answer: it never comes with a formula."""

from __future__ import annotations


class Refusal(ValueError):
    """A derivation that cannot be given: ``reason`` says why in one line, ``hint`` says what to try.

    Example:
        >>> import optax, theory
        >>> try:
        ...     theory.edge(optax.lion)
        ... except theory.Refusal as refusal:
        ...     print(type(refusal).__name__)
        NoLinearEdge
    """

    hint = "see `toylab derive --help`"

    def __init__(self, reason: str, hint: str | None = None):
        super().__init__(reason)
        self.reason = reason
        if hint is not None:
            self.hint = hint


class CannotTrace(Refusal):
    """A primitive, or a branch, that has no translation into SymPy.

    Example:
        >>> import jax.numpy as jnp, numpy as np, sympy as sp, theory
        >>> matrix = np.array([[sp.Symbol("a")]], dtype=object)
        >>> try:
        ...     theory.symbolically(lambda m: jnp.linalg.inv(m))(matrix)
        ... except theory.CannotTrace as refusal:
        ...     print(refusal.reason[:46])
        ...     print(refusal.hint)
        primitive 'lu' has no translation into SymPy (
        write that operation with elementary functions, or keep it out of the traced function
    """

    hint = "write that operation with elementary functions, or keep it out of the traced function"


class NoLinearEdge(Refusal):
    """The rule's held step is not linear, so no threshold of P^-1 H exists for it.

    Example:
        >>> import optax, theory
        >>> try:
        ...     theory.edge(optax.sign_sgd)
        ... except theory.NoLinearEdge as refusal:
        ...     print(refusal.reason[:56])
        ...     print(refusal.hint)
        the step does not grow with the gradient, u(c g) = u(g):
        only rules that are linear once their slow state is held have an edge
    """

    hint = "only rules that are linear once their slow state is held have an edge"


class BadFactory(Refusal):
    """The argument is no factory, a function from numeric hyperparameters to an `optax.GradientTransformation`.

    Example:
        >>> import theory
        >>> try:
        ...     theory.edge(lambda learning_rate: 3.0)
        ... except theory.BadFactory as refusal:
        ...     print(refusal.reason)
        ...     print(refusal.hint)
        the factory returned float, an optax.GradientTransformation was needed
        a factory takes numbers such as learning_rate and returns an optax.GradientTransformation
    """

    hint = "a factory takes numbers such as learning_rate and returns an optax.GradientTransformation"


class DerivationTimeout(Refusal):
    """The derivation took longer than its time limit.

    Example:
        >>> import time, optax, theory
        >>> def slow(learning_rate):
        ...     time.sleep(1.0)
        ...     return optax.sgd(learning_rate)
        >>> try:
        ...     theory.edge(slow, time_limit=0.1)
        ... except theory.DerivationTimeout as refusal:
        ...     print(refusal.reason)
        the derivation was not done after 0.1 s
    """

    hint = "raise time_limit, or fix some hyperparameters to numbers to make the expressions smaller"
