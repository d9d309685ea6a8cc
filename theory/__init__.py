"""toylab's symbolic side: from an optimizer's code, or a loss, to a theorem.

`symbolically` calls a JAX function with SymPy symbols; `edge` derives where a rule becomes unstable.  Nothing here
knows the laboratory that tests it.
"""

from theory.errors import BadFactory, CannotTrace, DerivationTimeout, NoLinearEdge, Refusal
from theory.linear_stability import Edge, EdgeNumbers, cached_edge, edge
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
    "Theorem",
    "cached_edge",
    "edge",
    "symbolically",
]
