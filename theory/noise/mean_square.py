"""Mini-batch noise on a quadratic: where the second moments of any rule start to grow.

Held state x = (w, fast), batch curvature h_B of mean a and variance v: x+ = (A + inject e_w^T (h_B - a)) x with A the
closed loop at the mean curvature.  The noise has rank one, so E[x x^T] grows exactly where

    q N(k) = 1,   q = eta^2 v / P^2,   k = eta a / P,   N(k) = (1/2 pi) integral |Q/(z - 1 + k Q)|^2 d omega:

the noise gain N is the squared H2 norm of the closed loop from gradient noise to the weight.  With no additive noise
c = v/a^2, the relative variance of the batch curvature, is the only number of the data: c k^2 N(k) = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import sympy as sp

from theory.edges.held_step import held_map
from theory.edges.linear_stability import Edge, cached_edge
from theory.edges.transfer import k
from theory.errors import NoLinearEdge
from theory.simplify import readable, tidy
from theory.theorem import Theorem

c = sp.Symbol("c", positive=True)
"""The relative variance of the batch curvature, v/a^2."""

_SYMBOLIC = 2
"""The highest order of a loop whose noise gain is written out; that of longer loops fills pages, `at` has numbers."""


def sum_of_squares(b: Sequence[Any], p: Sequence[Any]) -> Any:
    """(1/2 pi) integral over the circle of |b(z)/p(z)|^2: the sum of the squared impulse response, p Schur stable.

    Coefficients from z^n down, equally many.  Solves b b* = p x* + p* x (star: z -> 1/z): then b b*/(p p*) is x/p
    plus its mirror image, of constant term 2 x_0/p_0 (Astrom, Introduction to Stochastic Control Theory, 1970, ch. 5).
    """
    size = len(p)
    system = sp.zeros(size, size)
    for lag in range(size):
        for i in range(size - lag):
            system[lag, i + lag] += p[i]
            system[lag, i] += p[i + lag]
    right = sp.Matrix([sp.Add(*(b[i] * b[i + lag] for i in range(size - lag))) for lag in range(size)])
    replaced = system.copy()
    replaced[:, 0] = right
    top, bottom = (sp.factor(m.det(method="berkowitz")) for m in (replaced, system))
    return sp.factor(2 * top / (bottom * p[0]))


@dataclass(frozen=True)
class MeanSquareEdge(Theorem):
    """Where the second moments of a rule under mini-batch noise start to grow.  See `mean_square_edge`.

    edge          the theorem on the noiseless edge;  arguments: the rule's, and ``relative_variance`` c = v/a^2
    expressions   ``noise_gain`` N(k); ``condition``, positive from k = 0 up to the first root, which is the edge;
                  ``threshold`` of a = mean curvature of P^-1 H, where the condition is at most quadratic in k
    """

    edge: Edge

    def at(self, relative_variance: float, **hyperparameters: float) -> float:
        """The mean of lambda(P^-1 H) at which second moments start to grow, at c = ``relative_variance`` >= 0."""
        numbers = self.edge.at(**hyperparameters)
        if relative_variance == 0:
            return numbers.threshold
        strength = mp.mpf(float(relative_variance))

        def excess(gain: Any) -> Any:
            return strength * gain**2 * noise_gain_at(numbers.a, numbers.b, gain) - 1

        # the first crossing below k*: scanned coarsely, then bisected
        places = [numbers.k * x for x in np.geomspace(1e-6, 0.25, 45)[:-1]]
        places += [numbers.k * (1 - 10 ** (-i / 8)) for i in range(1, 97)]
        low = mp.mpf(0)
        for high in [*places, numbers.k * (1 - 1e-13)]:
            if excess(high) >= 0:
                break
            low = high
        else:
            return numbers.threshold
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
        return float((low + high) / 2) / numbers.eta


def noise_gain_at(a: Any, b: Any, gain: Any) -> Any:
    """N(k) in numbers (30 digits), for the loop a + k b."""
    with mp.workdps(30):
        a, b = [mp.mpf(float(x)) for x in a], [mp.mpf(float(x)) for x in b]
        p = [x + gain * y for x, y in zip(a, b, strict=True)]
        size = len(p)
        system = mp.zeros(size, size)
        for lag in range(size):
            for i in range(size - lag):
                system[lag, i + lag] += p[i]
                system[lag, i] += p[i + lag]
        right = mp.matrix([sum(b[i] * b[i + lag] for i in range(size - lag)) for lag in range(size)])
        return 2 * mp.lu_solve(system, right)[0] / p[0]


@lru_cache(maxsize=256)
def mean_square_edge(factory: Callable) -> MeanSquareEdge:
    """Derive where E[w^2] starts to grow under mini-batch noise, from a rule's own code.

    One eigendirection; examples with curvatures of mean a, batches of curvature variance v (`batch_variance`), drawn
    independently at every step; slow state held.  k = eta a/P and c = v/a^2.  Raises what `theory.edge` raises, and
    `NoLinearEdge` with weight decay coupled into the gradient (then a/P is not the only scale).

    Example:
        >>> import optax, theory
        >>> law = theory.mean_square_edge(optax.sgd)
        >>> print(law.expressions["threshold"])
        2/(eta*(c + 1))
        >>> round(law.at(0.5, learning_rate=0.1), 4)
        13.3333
    """
    edge = cached_edge(factory)
    loop = edge.loop
    if loop.coupled != 0:
        raise NoLinearEdge("coupled weight decay adds a curvature without noise: c = v/a^2 is not the only number")
    expressions: dict[str, sp.Expr] = {}
    if len(loop.a) - 1 <= _SYMBOLIC:
        p = [x + k * y for x, y in zip(loop.a, loop.b, strict=True)]
        gain = sum_of_squares(loop.b, p)
        top, bottom = sp.fraction(sp.together(gain))
        condition = sp.factor(sp.cancel((bottom - c * k**2 * top) / sp.gcd(bottom, c * k**2 * top)))
        start = condition.xreplace(edge.parameters.numbers() | {c: sp.Integer(1), k: sp.Rational(1, 10**9)})
        condition = sp.expand(condition if start > 0 else -condition)
        expressions = {"noise_gain": gain, "condition": condition}
        threshold = _first_root(condition, edge)
        if threshold is not None:
            expressions["threshold"] = threshold
    return MeanSquareEdge(
        statement=f"second moments of {edge.name} under mini-batch noise grow where c k^2 N(k) >= 1, k = eta a/P",
        assumptions=(*edge.assumptions, "batches are drawn afresh at every step", "one eigendirection, c = v/a^2"),
        source=edge.source,
        expressions=expressions,
        arguments={**edge.arguments, "relative_variance": c, "gain": k},
        edge=edge,
    )


def _first_root(condition: sp.Expr, edge: Edge) -> sp.Expr | None:
    """The root of the condition that tends to k* as c -> 0, divided by eta."""
    values = edge.parameters.numbers() | {c: sp.Rational(1, 10**6)}
    target = edge.at().k
    for factor in sp.Mul.make_args(sp.factor(condition)):
        polynomial = sp.Poly(factor, k) if factor.has(k) else None
        if polynomial is None or polynomial.degree() > 2:
            continue
        for root in sp.roots(polynomial):
            if abs(complex(sp.N(root.xreplace(values))) - target) < 1e-2 * target:
                return readable(tidy(sp.factor(root) / edge.parameters.eta), edge.parameters)
    return None


# ---------------------------------------------------------------------------------------------------------------
# Several dimensions


def second_moment_operator(mean: Any, deviations: Any) -> Any:
    """E[A_B (x) A_B] (m^2, m^2), the one-step map of E[x x^T], from the mean step and deviations (N, m, m) from it.

    The mean over the N deviations of their Kronecker squares is added: give all batches, or the examples' deviations
    times the square root of (n - B)/(B (n - 1)).  Its spectral radius is an eigenvalue (it maps the positive
    semidefinite cone into itself); second moments grow where that exceeds 1.  Cost m^4 memory.
    """
    size = mean.shape[-1] ** 2
    noise = jnp.einsum("nij,nkl->ikjl", deviations, deviations).reshape(size, size) / deviations.shape[0]
    return jnp.kron(mean, mean) + noise


@lru_cache(maxsize=256)
def closed_loop(factory: Callable) -> Callable:
    """``step(H, **hyperparameters)`` -> the held step on w^T H w/2 as a matrix on (w (d), fast (m d)), JAX.

    Derived from the rule's traced map; slow leaves are held at 1 (so P = 1 where eps = 0).
    """
    held = held_map(factory)
    ones = dict.fromkeys(held.slow, sp.Integer(1))
    parts = [held.matrix.xreplace(ones), held.inject.xreplace(ones)]
    names = held.parameters.symbols
    compiled = sp.lambdify(list(names.values()), parts, modules="jax", cse=True)
    reference = {name: float(held.parameters.reference[name]) for name in names}

    def step(hessian: Any, **hyperparameters: float) -> Any:
        matrix, inject = compiled(*({**reference, **hyperparameters}[name] for name in names))
        matrix, inject = jnp.asarray(matrix), jnp.asarray(inject).reshape(-1)
        drive = jnp.outer(inject, jnp.eye(len(inject))[0])
        return jnp.kron(matrix, jnp.eye(hessian.shape[0])) + jnp.kron(drive, hessian)

    return step


def spectral_radius(operator: Any) -> float:
    """Largest modulus of an eigenvalue of a dense matrix."""
    return float(np.abs(np.linalg.eigvals(np.asarray(operator))).max())
