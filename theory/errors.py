"""Why a derivation is refused.  A refusal is an answer: it never comes with a formula."""

from __future__ import annotations


class Refusal(ValueError):
    """A derivation that cannot be given, with the ``reason`` (one line) and a ``hint`` what to try."""

    hint = "see `toylab derive --help`"

    def __init__(self, reason: str, hint: str | None = None):
        super().__init__(reason)
        self.reason = reason
        if hint is not None:
            self.hint = hint


class CannotTrace(Refusal):
    """A primitive, or a branch, that has no translation into SymPy."""

    hint = "write that operation with elementary functions, or keep it out of the traced function"


class NoLinearEdge(Refusal):
    """The rule's held step is not linear, so no threshold of P^-1 H exists for it."""

    hint = "only rules that are linear once their slow state is held have an edge"


class BadFactory(Refusal):
    """Not a function: numeric hyperparameters -> optax.GradientTransformation."""

    hint = "a factory takes numbers such as learning_rate and returns an optax.GradientTransformation"


class DerivationTimeout(Refusal):
    """The derivation took longer than its time limit."""

    hint = "raise time_limit, or fix some hyperparameters to numbers to make the expressions smaller"
