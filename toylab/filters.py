"""A built optimizer as a temporal filter, from its own held step: the numerical road to every edge.

The public door to `toylab.rules`; `Filter` defines the numbers.

Example:
    >>> import optax
    >>> from toylab import filters
    >>> heavy_ball = filters.held_filter(optax.sgd(0.1, momentum=0.5))
    >>> round(heavy_ball.threshold, 4), heavy_ball.crossing  # 2 (1 + momentum)/learning_rate
    (30.0, 'flip')
    >>> heavy_ball.roles  # the momentum, the one leaf of the state, is fast
    Roles(autonomous=(), slow=(), fast=(0,))
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
