"""Hyperparameters at which the laws of self-stabilization are compared with other derivations."""

from theory.self_stabilization.any_rule import cached_stabilization
from toylab.optimizers import NAMED

POINTS = {"momentum": 0.35, "b1": 0.6, "alpha": 0.8, "beta": 0.45}


def at_point(rule, eta=0.3, scale=1.0):
    """The theorem of a rule, the hyperparameters of `POINTS` that it has times ``scale``, and its numbers there."""
    theorem = cached_stabilization(NAMED[rule])
    named = {n: scale * v for n, v in POINTS.items() if n in theorem.edge.symbols}
    return theorem, named, theorem.at(learning_rate=eta, **named)
