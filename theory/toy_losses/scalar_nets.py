"""Scalar networks, L = (w_1 ... w_n - 1)^2/2: gradient flow conserves the imbalances, gradient descent contracts them.

Kreisler et al. (2305.13064): the sharpness of the minimum that gradient *flow* would find from each iterate of
gradient descent decreases monotonically, also while the loss does not.  Derived here from the traced loss: flow
conserves the imbalances w_i^2 - w_j^2, a step of descent multiplies each by 1 - (eta (p - 1) p/(w_i w_j))^2, p the
product.  Where all these factors lie in [0, 1] the order of the w_i^2 is kept and all gaps shrink, hence so does the
sharpness: gaps fix the minimum, and along shrinking gaps d(sum 1/a_i) = -sum (da_i/a_i)/a_i <= 0, as the da_i/a_i sum
to zero and change sign once.  For two weights [-1, 1] is enough and necessary; near balance it is so for any depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax import Array

from theory.simplify import tidy
from theory.theorem import Theorem
from theory.tracing.interpreter import symbolically

eta = sp.Symbol("eta", positive=True)
scale = sp.Symbol("w", positive=True)
imbalance = sp.Symbol("d", real=True)


@dataclass(frozen=True)
class ScalarNet(Theorem):
    """The theorem for ``depth`` weights w1, ..., wn.

    factor           of the imbalance w1^2 - w2^2 under one step of gradient descent
    balanced_factor  the same with all weights equal to w
    balanced_bound   eta above which a nearly balanced net, all weights near w, lets the flow sharpness grow
    flow_sharpness   for two weights: in the imbalance d = w1^2 - w2^2; None for more
    """

    depth: int
    factor: sp.Expr
    balanced_factor: sp.Expr
    balanced_bound: sp.Expr
    flow_sharpness: sp.Expr | None


def loss(weights: Array) -> Array:
    """(w_1 ... w_n - 1)^2/2 in JAX; the derivation traces it."""
    return 0.5 * (jnp.prod(weights) - 1.0) ** 2


def _descend(weights: Array, rate: Array) -> tuple[Array, Array]:
    slope = jax.grad(loss)(weights)
    return slope, weights - rate * slope


@lru_cache(maxsize=8)
def scalar_net(depth: int) -> ScalarNet:
    """Derive conserved quantities, contraction and bounds for ``depth`` >= 2 weights.

    Source: Kreisler et al. (2305.13064), whose flow-sharpness theorem this sharpens to explicit bounds on eta.
    """
    if depth < 2:
        raise ValueError(f"got depth {depth}: an imbalance needs at least two weights")
    w = sp.symbols(f"w1:{depth + 1}", positive=True)
    slope, after = symbolically(_descend)(np.array(w, dtype=object), eta)
    for i, j in combinations(range(depth), 2):
        if sp.expand(w[i] * slope[i] - w[j] * slope[j]) != 0:
            raise AssertionError("gradient flow does not conserve the imbalances: the derivation is wrong")
    product = sp.Symbol("p", real=True)
    rest = sp.Mul(*w[2:])
    factor = sp.cancel((after[0] ** 2 - after[1] ** 2) / (w[0] ** 2 - w[1] ** 2))
    contraction = 1 - (eta * (product - 1) * product / (w[0] * w[1])) ** 2
    if sp.expand(factor - contraction.subs(product, w[0] * w[1] * rest)) != 0:
        raise AssertionError("the imbalance is not multiplied by the stated factor")
    balanced = tidy(sp.factor(factor.subs(dict.fromkeys(w, scale))))
    bound = sp.sqrt(2) / (sp.Abs(scale**depth - 1) * scale ** (depth - 2))
    if sp.simplify(balanced.subs(eta, bound) + 1) != 0:
        raise AssertionError("at the bound the imbalance is not reflected")
    curvature = _near_balance(depth)
    expressions = {
        "factor": contraction.subs(product, sp.Mul(*w)),
        "balanced_factor": balanced,
        "balanced_bound": bound,
        "near_balance": curvature,
    }
    sharp = None
    if depth == 2:
        sharp = expressions["flow_sharpness"] = _of_two_weights()
    return ScalarNet(
        statement="a step of gradient descent multiplies w_i^2 - w_j^2 by 1 - (eta (p - 1) p/(w_i w_j))^2; the flow "
        "sharpness decreases where all these lie in [0, 1]; for two weights iff eta |p - 1| <= sqrt(2)",
        assumptions=("positive weights before and after the step", "gradient descent, squared loss, target 1"),
        source="traced from the loss of Kreisler et al. (2305.13064), eq. 2",
        expressions=expressions,
        arguments={"learning_rate": eta, "scale": scale, "imbalance": imbalance, **{str(s): s for s in w}},
        depth=depth,
        factor=expressions["factor"],
        balanced_factor=balanced,
        balanced_bound=bound,
        flow_sharpness=sharp,
    )


def _of_two_weights() -> sp.Expr:
    """sum 1/w_i^2 at the minimum w1 w2 = 1 with w1^2 - w2^2 = d: it grows with |d| alone."""
    a, d = sp.Symbol("a", positive=True), imbalance
    root = next(r for r in sp.solve(a * (a - d) - 1, a) if r.subs(d, 0) == 1)
    return sp.sqrt(sp.expand(sp.radsimp((1 / root + 1 / (root - d)) ** 2)))


def _near_balance(depth: int) -> sp.Expr:
    """c > 0 in: flow sharpness = depth + c sum d_i^2 + O(d^3), d_i the deviations of w_i^2 from their mean."""
    small, shift = sp.symbols("small shift")
    d = [*sp.symbols(f"d1:{depth}")]
    d.append(-sp.Add(*d))
    squares = [1 + small * x + small**2 * shift for x in d]
    log_product = sp.Add(*(_series(sp.log(1 + small), small, s - 1) for s in squares))
    moved = sp.solve(sp.expand(log_product).coeff(small, 2), shift)[0]
    sharp = sp.expand(sp.Add(*(_series(1 / (1 + small), small, s - 1) for s in squares)).subs(shift, moved))
    ratio = sp.cancel(sharp.coeff(small, 2) / sp.expand(sp.Add(*(x**2 for x in d))))
    if not ratio.is_positive:
        raise AssertionError("near balance the flow sharpness is not a positive multiple of the squared deviations")
    return ratio


def _series(function: sp.Expr, variable: sp.Symbol, value: sp.Expr) -> sp.Expr:
    """``function`` to second order in its variable, at a ``value`` that is small itself."""
    terms = [sp.diff(function, variable, n).subs(variable, 0) / sp.factorial(n) for n in range(3)]
    return sp.expand(sp.Add(*(c * value**n for n, c in enumerate(terms))))
