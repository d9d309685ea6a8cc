"""toylab's symbolic side: from an optimizer's code, or a loss, to a theorem.

`symbolically` calls a JAX function with SymPy symbols; `edge` derives where a rule becomes unstable, `stabilization`
what then holds it there, `drift_law` when that is damped, `period_two` the 2-cycles of a loss, `mean_square_edge` what
mini-batches do to the edge, `sam_edge` what sharpness-aware steps do, `settling_law` where a run ends that nothing
pushes, `catapult_map` the two-layer linear net.  `central_flow_law` and `central_map_law` average motion at the
edge, `balance_law` says whether it comes to rest there, `growth_law` how fast an oscillation grows and decays off it.
`expand` and `local_jet` are the Taylor expansion of a traced loss.
Nothing here knows the laboratory that tests it.
"""

from theory.adaptive_flow import central_flow_rmsprop, central_flow_scalar_rmsprop, moments_at_rest
from theory.averaging import central_flow_law
from theory.balance import balance_law
from theory.bifurcation import period_two
from theory.catapult import catapult_map
from theory.central_flow import central_flow_gd, central_flow_gd_block
from theory.central_map import central_map_law
from theory.central_toys import flip_variance, toy_centre
from theory.drift import drift_law
from theory.errors import BadFactory, CannotTrace, DerivationTimeout, NoLinearEdge, Refusal
from theory.growth import growth_law
from theory.linear_stability import Edge, EdgeNumbers, cached_edge, edge
from theory.noise import mean_square_edge
from theory.sam import sam_edge
from theory.settling import settling_law
from theory.stabilized_rules import Stabilization, stabilization
from theory.taylor import averaged_gradient, expand, local_jet
from theory.theorem import Theorem
from theory.trace import symbolically

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
