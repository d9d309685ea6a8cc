"""Following the top eigenpairs of a Hessian from one observation to the next."""

from collections.abc import Callable
from typing import Any

from jax import Array

from toylab import curvature
from toylab.observing.observer import Moment
from toylab.rules.preconditioner import felt_hessian, felt_inverse

PyTree = Any


def tracked(
    memory: curvature.Track, hvp: Any, like: PyTree, inverse: PyTree = None, above: Array | None = None
) -> tuple[curvature.EigenPair, curvature.Track]:
    """Top eigenpairs of H, or of P^-1/2 H P^-1/2 with the diagonal `inverse` of P^-1, followed from the last
    observation to this one: see `toylab.curvature.follow`, whose tolerance 1e-3 of the value is kept."""
    return curvature.follow(hvp, memory, like, inverse_preconditioner=inverse, above=above)


def felt_curvature(moment: Moment, hvp: Any) -> tuple[Callable[[PyTree], PyTree], PyTree]:
    """What the rule feels of the Hessian `hvp`: with coupled weight decay added, and the diagonal of P^-1 of this very
    step."""
    kind, gauge = moment.kind, moment.gauge
    assert kind is not None and gauge is not None, "prepared for every run that observes the edge ratio"
    inverse = felt_inverse(moment.transform, kind, gauge, moment.step_grads, moment.state, moment.params)
    return felt_hessian(hvp, gauge.coupled), inverse
