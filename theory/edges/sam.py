"""Sharpness-aware minimization: its edge, derived by tracing optax's own SAM step on a local quadratic.

Two directions: x along the top eigenvector u with curvature lambda, and s in which the loss falls at rate G: the rest
of the gradient.  L(x, s) = lambda x^2/2 + G s.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import numpy as np
import optax
import optax.contrib
import sympy as sp

from theory.simplify import tidy
from theory.theorem import Theorem
from theory.tracing.interpreter import symbolically

eta, rho, curvature, rest = sp.symbols("eta rho lambda_ G", positive=True)
edge_gain = sp.Symbol("k_star", positive=True)
"""k* of the rule that takes the step: 2 for gradient descent (`theory.edge`: eta times the threshold at P = 1)."""
_x, _s = sp.symbols("x s", real=True)
_SOURCE = "optax.contrib.sam traced on a local quadratic; Foret et al., arXiv:2010.01412"
_ARGUMENTS = {"learning_rate": eta, "rho": rho, "gradient_norm": rest, "edge_gain": edge_gain}


def perturbed_gradient(normalised: bool) -> sp.Expr:
    """The gradient along u at the perturbed weights w + rho g/|g| (or w + rho g if not ``normalised``), in x and G.

    This is the gradient that the outer rule is given; it is traced from one SAM step of gradient descent at rate 1.
    """

    def step(point: jax.Array, rho: Any, curvature: Any, rest: Any) -> Any:
        def gradient(p: jax.Array, _: int = 0) -> jax.Array:
            return jax.grad(lambda q: curvature * q[0] ** 2 / 2 + rest * q[1])(p)

        ascent = optax.sgd(rho)
        if normalised:
            ascent = optax.chain(optax.contrib.normalize(), ascent)
        rule = optax.contrib.sam(optax.sgd(1.0), ascent, opaque_mode=True)
        return rule.update(gradient(point), rule.init(point), point, grad_fn=gradient)[0]

    update = symbolically(step)(np.array([_x, _s], dtype=object), rho, curvature, rest)
    return sp.factor(-update[0])


@lru_cache
def sam_edge(normalised: bool = True) -> Theorem:
    """The largest stable curvature of SAM with an outer rule of edge gain k* (gradient descent: k* = 2).

    The outer rule is given the perturbed gradient, whose slope in x at x = 0 stands in the place of lambda: it is
    lambda (1 + rho lambda/|g|) normalised, lambda (1 + rho lambda) not.  The step is stable while eta times this slope
    is below k*.  |g| = G is the gradient norm, which must be dominated by other directions than u (`sam_cycle` has the
    case where it is not).  Expressions: ``preconditioned_hessian``, the slope; ``threshold`` of lambda (without
    normalisation G drops out of both).

    Example:
        >>> import theory
        >>> print(theory.sam_edge().statement)
        SAM loses stability where eta lambda (1 + rho lambda/|g|) = k*
        >>> threshold = theory.sam_edge().numeric("threshold")
        >>> round(float(threshold(learning_rate=0.1, rho=0.05, gradient_norm=1.0, edge_gain=2.0)), 4)
        12.3607
    """
    slope = tidy(sp.diff(perturbed_gradient(normalised), _x).subs(_x, 0))
    roots = sp.solve(sp.expand(eta * slope - edge_gain), curvature)
    threshold = [root for root in roots if root.subs(dict.fromkeys((eta, rho, rest, edge_gain), 1)) > 0]
    if len(threshold) != 1 or sp.limit(threshold[0], rho, 0) != edge_gain / eta:
        raise AssertionError("SAM's edge must tend to the outer rule's as rho -> 0")
    return Theorem(
        statement="SAM loses stability where eta lambda (1 + rho lambda" + ("/|g|" if normalised else "") + ") = k*",
        assumptions=(
            "a local quadratic along u",
            "memoryless ascent; the outer rule acts on the perturbed gradient",
            *(("|g| is dominated by directions other than u, and steady",) if normalised else ()),
        ),
        source=_SOURCE,
        expressions={"preconditioned_hessian": slope, "threshold": threshold[0]},
        arguments={**_ARGUMENTS, "curvature": curvature},
    )


@lru_cache
def sam_cycle() -> Theorem:
    """Normalised SAM where the whole gradient lies along u: no threshold, a 2-cycle for every eta lambda < 2.

    x+ = x - eta lambda (x + rho sign x): the cycle x -> -x has ``amplitude`` eta lambda rho/(2 - eta lambda), growing
    without bound as eta lambda -> 2, and attracts with multiplier ``multiplier`` = 1 - eta lambda.  On it
    eta lambda (1 + rho lambda/|g|) = 2 identically (``identity``): to measure SAM's edge there tests nothing.
    """
    size = sp.Symbol("r", positive=True)
    alone = perturbed_gradient(True).subs(rest, 0).subs(_x, size)
    after = sp.expand(size - eta * sp.simplify(alone))
    amplitude = sp.factor(sp.solve(sp.expand(after + size), size)[0])
    multiplier = sp.factor(sp.diff(after, size))
    norm = curvature * amplitude
    identity = sp.simplify(eta * curvature * (1 + rho * curvature / norm))
    if identity != 2:
        raise AssertionError("the 2-cycle must satisfy the edge's equation")
    return Theorem(
        statement="normalised SAM with its gradient along u cycles between +-eta lambda rho/(2 - eta lambda)",
        assumptions=("one dimension", "eta lambda < 2", "the outer rule is gradient descent"),
        source=_SOURCE,
        expressions={"amplitude": amplitude, "multiplier": multiplier, "identity": identity},
        arguments={**_ARGUMENTS, "curvature": curvature},
    )
