"""toylab's symbolic side: from an optimizer's code, or a loss, to a theorem.

Each folder is a chapter and answers a question.

tracing             How does JAX code become SymPy?  `symbolically` calls a JAX function with symbols.
edges               Where does a rule become unstable?  `edge`, kept by `cached_edge`; `growth_law` says how fast an
                    oscillation grows and decays off the edge, `sam_edge` what sharpness-aware steps change.
losses              What is a loss near a point?  `expand` and `local_jet` are its Taylor expansion, `averaged_gradient`
                    the mean of its gradient over an oscillation.
two_cycles          What is born where a rule flips?  `period_two`, the 2-cycle of a scalar loss.
self_stabilization  What holds a run at its edge?  `stabilization`; `drift_law` says when that is damped,
                    `settling_law` where a run comes to rest that nothing pushes.
averages            How does the mean of a run at the edge move?  `central_flow_law` and `central_map_law` for any rule,
                    `central_flow_gd`, `central_flow_rmsprop` and their kin for two; `balance_law` says whether it
                    comes to rest there.
noise               What do mini-batches do to the edge?  `mean_square_edge`.
toy_losses          What can be solved exactly?  `catapult_map`, the two-layer linear net.

A derivation returns a `Theorem`: a statement, its assumptions, its source, its formulas, and their JAX functions.  One
that cannot be given raises a `Refusal` with a reason and a hint.  Nothing here imports the laboratory that tests it.
"""

from theory.averages.any_rule import central_flow_law
from theory.averages.central_map import central_map_law
from theory.averages.exact_toys import flip_variance, toy_centre
from theory.averages.gradient_descent import central_flow_gd, central_flow_gd_block
from theory.averages.resting_moments import balance_law
from theory.averages.rmsprop import central_flow_rmsprop, central_flow_scalar_rmsprop, moments_at_rest
from theory.edges.growth import growth_law
from theory.edges.linear_stability import Edge, EdgeNumbers, cached_edge, edge
from theory.edges.sam import sam_edge
from theory.errors import BadFactory, CannotTrace, DerivationTimeout, NoLinearEdge, Refusal
from theory.losses.mean_gradient import averaged_gradient
from theory.losses.plane_jet import local_jet
from theory.losses.taylor import expand
from theory.noise.mean_square import mean_square_edge
from theory.self_stabilization.any_rule import Stabilization, stabilization
from theory.self_stabilization.drift import drift_law
from theory.self_stabilization.settling import settling_law
from theory.theorem import Theorem
from theory.toy_losses.catapult import catapult_map
from theory.tracing.interpreter import symbolically
from theory.two_cycles.bifurcation import period_two

__all__ = [
    "BadFactory",
    "CannotTrace",
    "DerivationTimeout",
    "Edge",
    "EdgeNumbers",
    "NoLinearEdge",
    "Refusal",
    "Stabilization",
    "Theorem",
    "averaged_gradient",
    "balance_law",
    "cached_edge",
    "catapult_map",
    "central_flow_gd",
    "central_flow_gd_block",
    "central_flow_law",
    "central_flow_rmsprop",
    "central_flow_scalar_rmsprop",
    "central_map_law",
    "drift_law",
    "edge",
    "expand",
    "flip_variance",
    "growth_law",
    "local_jet",
    "mean_square_edge",
    "moments_at_rest",
    "period_two",
    "sam_edge",
    "settling_law",
    "stabilization",
    "symbolically",
    "toy_centre",
]
