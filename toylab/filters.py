"""A built optimizer as a temporal filter, from its own held step: the numerical road to every edge.

The public door to `toylab.rules`; what the numbers mean stands in `toylab.rules.filter`.
"""

from toylab.rules.filter import (
    Filter,
    NoLinearEdge,
    StateSpace,
    analyse,
    held_filter,
    inverse_preconditioner,
    limit_state,
    roles,
    state_space,
)

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
