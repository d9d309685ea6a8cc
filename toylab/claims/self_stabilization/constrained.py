"""The constrained trajectory of self-stabilization: it holds the edge, has no slope across it, and descends."""

from __future__ import annotations

import numpy as np

from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import at_most, equality, order
from toylab.claims.self_stabilization.predicted_dynamics import DAMIAN
from toylab.experiments.predicted_runs import descent_errors, held_problems, sharpness_held, slope_held

CONSTRAINED = Claim(
    id="self_stabilization/predicted_edge_held",
    tier="default",
    statement="on the constrained trajectory the sharpness is 2/eta",
    source=DAMIAN + ", definition of the constrained trajectory",
    comparison=equality(5e-8, "Newton's method stops at a relative error of 1.5e-8, the root of the rounding"),
    predicted=lambda sample: 1.0,
    measure=sharpness_held,
)


FLAT = Claim(
    id="self_stabilization/predicted_no_slope_along_u",
    tier="default",
    statement="on the constrained trajectory the gradient has no part along the top eigenvector",
    source=DAMIAN + ", definition of the constrained trajectory",
    comparison=at_most(
        5e-8,
        "Newton's method stops at 1.5e-8 of |grad L|",
        ceiling=Ceiling(1e-6, "the stopping rule of the projection"),
        scale=1.0,
    ),
    predicted=lambda sample: dict.fromkeys(held_problems(), np.zeros(())),
    measure=slope_held,
)


DESCENT = Claim(
    id="self_stabilization/predicted_descent",
    tier="default",
    statement="along the constrained trajectory the loss decreases at every step, by eta (|grad L|^2 - alpha^2/beta) "
    "(1 + O(eps)): the squared gradient along the constraint set (codimension one, the push of size eps)",
    source=DAMIAN + ", descent of the constrained trajectory",
    comparison=order(0.1, "eps from 0.02 to 0.0025: the next order bends the slope by some eps"),
    predicted=lambda sample: 1.0,
    errors=descent_errors,
)


CLAIMS = [CONSTRAINED, FLAT, DESCENT]
