"""Following the top eigenpairs of a Hessian from one observation to the next."""

from collections.abc import Callable
from typing import Any

from jax import Array

from toylab import curvature
from toylab.observing.observer import Moment
from toylab.rules.preconditioner import read_inverse_preconditioner, with_coupled_decay

PyTree = Any


def tracked(
    memory: curvature.Track, hvp: Any, like: PyTree, inverse: PyTree = None, above: Array | None = None
) -> tuple[curvature.EigenPair, curvature.Track]:
    """Top eigenpairs of H, or of P^-1/2 H P^-1/2 with the diagonal `inverse` of P^-1, followed from the last
    observation to this one: see `toylab.curvature.follow`, whose tolerance 1e-3 of the value is kept."""
    return curvature.follow(hvp, memory, like, inverse_preconditioner=inverse, above=above)


def preconditioned_hessian(moment: Moment, hvp: Any) -> tuple[Callable[[PyTree], PyTree], PyTree]:
    """The Hessian `hvp` with the rule's coupled weight decay added, and the diagonal of P^-1 of this very step."""
    structure, edge = moment.structure, moment.edge
    assert structure is not None and edge is not None, "prepared for every run that observes the edge ratio"
    inverse = read_inverse_preconditioner(
        moment.transform, structure, edge, moment.step_grads, moment.state, moment.params
    )
    return with_coupled_decay(hvp, edge.coupled), inverse
