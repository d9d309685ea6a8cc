"""A built transform as a temporal filter, numerically: held step -> state space -> stable windows.

Near an edge, on a quadratic of Hessian H and with its slow state held, every rule with a linear edge is

    f+ = A f + b g,     w+ = w - decay w + P^-1 (c f + d g),     g = H w  (H + coupled I with coupled decay)

so that with lambda an eigenvalue of P^-1 H the motion along its eigendirection has the characteristic polynomial
``poly0(z) + lambda poly1(z)``.  ``P`` follows the house convention: P = 1 when every second-moment leaf is 1 and
eps = 0.  The learning rate of a built transform cannot be separated from its filter: everything here is the *step
filter* eta Q(z), and ``threshold`` is the critical lambda_max(P^-1 H) itself (k* / eta).

This module knows no SymPy; `theory.edge` derives the same numbers from the same code on another road.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toylab.rules.checks import require_elementwise, require_linear, require_separable
from toylab.rules.errors import NoLinearEdge
from toylab.rules.limits import limit_state
from toylab.rules.matrices import StateSpace, state_space
from toylab.rules.parities import Roles, roles
from toylab.rules.windows import reduced, stable_windows

PyTree = Any


class Filter(NamedTuple):
    """The numbers of a rule's edge.  See the module docstring for the convention.

    A (n, n), b (n,), c (n,), d () : f+ = A f + b g, step = c f + d g  = -(eta Q) * g
    decay      : what one step without gradient takes off a unit weight at rest; eta omega when the decay is decoupled
    coupled    : coupled weight decay; H stands for the loss's Hessian plus coupled I
    threshold  : end of the stable window of lambda(P^-1 H) that starts at 0+ (inf if there is no end)
    windows    : all stable windows (lo, hi) in lambda(P^-1 H)
    crossing   : "flip", "neimark_sacker" or "none"; angle: of the critical multiplier, pi for a flip
    gain_dc, gain_nyquist : eta Q(1), eta Q(-1)
    impulse, delay        : first nonzero impulse coefficient of eta Q, and how many steps late it comes
    structural : roots on the unit circle that do not move with lambda
    roles      : those of the state on a single weight, None where only the matrices were given (`analyse`)
    """

    A: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: float
    decay: float
    coupled: float
    threshold: float
    windows: tuple[tuple[float, float], ...]
    crossing: str
    angle: float
    gain_dc: float
    gain_nyquist: float
    impulse: float
    delay: int
    structural: tuple[complex, ...]
    roles: Roles | None = None


def held_filter(transform: optax.GradientTransformation, count: int | None = None) -> Filter:
    """The filter and the edge of a built transform, its step count at infinity (or after ``count``: quasi-static).

    Raises `NoLinearEdge` with the reason if the held step is not linear in (weights, gradient, fast state), or mixes
    the coordinates of a vector or matrix of weights.
    """
    params = jnp.zeros(())
    parts = roles(transform, params)
    state = jax.jit(lambda: limit_state(transform, params, parts, count))()
    space = jax.jit(lambda s: state_space(transform, parts, s))(state)
    require_linear(transform, parts, state, space)
    require_separable(transform, parts, state)
    require_elementwise(transform, parts)
    return analyse(space)._replace(roles=parts)


def analyse(space: StateSpace) -> Filter:
    """Everything that follows from the held step's matrices, for one set of hyperparameters (host, float64)."""
    matrix, inject = (np.asarray(part, np.float64) for part in space[:2])
    n = len(inject) - 1
    scale = np.ones(n + 1)  # balance: fast state in units in which a unit gradient moves it by about one
    scale[1:] = [2.0 ** np.round(np.log2(abs(v))) if v != 0 else 1.0 for v in inject[1:]]
    matrix, inject = matrix * scale / scale[:, None], inject / scale
    poly0 = np.poly(matrix)
    drive = np.zeros((n + 1, n + 1))
    drive[:, 0] = inject
    poly1 = np.poly(matrix + drive) - poly0  # characteristic polynomial is linear in lambda: poly0 + lambda poly1
    poly1[np.abs(poly1) < 1e-13 * np.abs(poly1).max()] = 0.0  # rounding of products of a few O(1) numbers
    poly1_full = poly1
    poly0, poly1, structural = reduced(poly0, poly1)
    windows, angle = stable_windows(poly0, poly1, matrix, inject)
    first = next(((lo, hi) for lo, hi in windows if lo == 0.0), None)
    if first is None:
        raise NoLinearEdge(
            "no stable window starts at 0+: the held step moves uphill or is unstable by itself",
            "check the sign (optax.scale_by_learning_rate makes a descent direction) and the hyperparameters",
        )
    threshold = first[1]
    crossing = "none" if np.isinf(threshold) else "flip" if angle > np.pi - 1e-9 else "neimark_sacker"
    A, b, c, d = matrix[1:, 1:], inject[1:], matrix[0, 1:], inject[0]
    impulses = [d, *(c @ np.linalg.matrix_power(A, j) @ b for j in range(n))]
    delay = next((j for j, h in enumerate(impulses) if abs(h) > 1e-14 * max(map(abs, impulses))), 0)

    fast, response, still = reduced(np.poly(A) if n else np.ones(1), poly1_full)

    def gain(z: float) -> float:
        resolvent = z * np.eye(n) - A
        if n and np.linalg.cond(resolvent) < 1e6:
            return float(-(c @ np.linalg.solve(resolvent, b) + d))
        with np.errstate(divide="ignore"):
            return float(np.divide(np.polyval(response, z), np.polyval(fast, z)))

    return Filter(
        A, b, c, float(d), float(1.0 - matrix[0, 0]), float(space.coupled), threshold, windows, crossing, angle,
        gain(1.0), gain(-1.0), float(-impulses[delay]), delay, tuple({*structural, *still}),
    )  # fmt: skip
