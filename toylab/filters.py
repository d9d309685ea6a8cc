"""A built optimizer as a temporal filter, from its own held step: the numerical road to every edge.

The public door to `toylab.rules`; what the numbers mean stands in `toylab.rules.filter`.
"""

from toylab.rules.errors import NoLinearEdge
from toylab.rules.filter import Filter, analyse, held_filter
from toylab.rules.limits import limit_state
from toylab.rules.matrices import StateSpace, state_space
from toylab.rules.parities import roles
from toylab.rules.preconditioner import inverse_preconditioner

__all__ = [
    "Filter",
    "NoLinearEdge",
    "StateSpace",
    "analyse",
    "held_filter",
    "inverse_preconditioner",
    "limit_state",
    "roles",
    "state_space",
]
