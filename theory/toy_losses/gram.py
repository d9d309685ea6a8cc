"""Training a two-layer linear net with any linear rule is a map of two small Gram matrices (`gram_map`).

f = u.v/sqrt(n) in the coordinates p = u + v, q = u - v has the gradients s p and -s q with one number s common to all
coordinates.  A rule without slow state moves (w, fast state) linearly, so the vectors (p, fast_p) are multiplied by
the small matrix A(s) and (q, fast_q) by A(-s): their Gram matrices are a closed system, whatever the width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import sympy as sp

from theory.edges.held_step import describe, held_map
from theory.errors import CannotTrace, NoLinearEdge
from theory.theorem import Theorem, as_jax
from theory.tracing.interpreter import objects, symbolically

f, y = sp.symbols("f y", real=True)
n, curvature = sp.symbols("n lambda_", positive=True)
s = sp.Symbol("s", real=True)
"""Output, label; width, tangent kernel lambda = (|u|^2 + |v|^2)/n; the drive s = (dL/df)/sqrt(n)."""

WIDTHS = (1, 4)
"""Explicit widths at which the loss is traced: squares, so that their roots are exact."""


@dataclass(frozen=True)
class GramMap(Theorem):
    """The closed map of the two Gram matrices (m, m), m = 1 + number of fast leaves, in units of 1/n.

    sums, differences   symbols of Gram(p, fast_p)/n and Gram(q, fast_q)/n; entry (0, 0) is |p|^2/n, |q|^2/n
    step                symbol -> its value after one step, of the eigendirection's own hyperparameters, n and y
    factor              A(s) (m, m);  drive: s in the symbols;  output, curvature: f and lambda in them
    symbols             hyperparameter -> symbol
    """

    sums: sp.Matrix
    differences: sp.Matrix
    step: dict[sp.Symbol, sp.Expr]
    factor: sp.Matrix
    drive: sp.Expr
    output: sp.Expr
    curvature: sp.Expr
    symbols: dict[str, sp.Symbol]

    def stepper(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        """``step(sums, differences, *, width, target, **hyperparameters)`` -> both after one step (m, m), in JAX."""
        import jax.numpy as jnp

        arguments = {"drive": s, **self.symbols}
        entries = [as_jax(entry, arguments) for entry in self.factor]
        shape = self.factor.shape
        force = as_jax(self.expressions["drive"], self.arguments)

        def step(sums: Any, differences: Any, *, width: Any, target: Any = 0.0, **numbers: Any) -> tuple[Any, Any]:
            root = jnp.sqrt(jnp.asarray(width, dtype=float))
            output = root * (sums[0, 0] - differences[0, 0]) / 4
            drive = force(f=output, n=jnp.asarray(width, dtype=float), y=target)

            def moved(gram: Any, sign: float) -> Any:
                factor = jnp.stack([jnp.asarray(e(drive=sign * drive, **numbers), dtype=float) for e in entries])
                factor = factor.reshape(shape)
                return factor @ gram @ factor.T

            return moved(sums, 1.0), moved(differences, -1.0)

        return step


def output_slope(loss: Callable) -> sp.Expr:
    """dL/df of ``loss((u, v), (inputs, targets))`` for one example with input 1 and label y, as a function of f.

    Derived from the traced gradient at width 1; at the widths `WIDTHS` the traced gradient is then shown to be
    (s v, s u) with s = (dL/df)/sqrt(n) at f = u.v/sqrt(n).  Raises `CannotTrace` for a loss of another form.
    """
    gradient = symbolically(jax.grad(loss))
    data = (objects([sp.Integer(1)]), objects([y]))
    slope = gradient((objects([f]), objects([sp.Integer(1)])), data)[0][0]
    for width in WIDTHS:
        u, v = (objects(sp.symbols(f"{name}1:{width + 1}", real=True)) for name in "uv")
        slopes = gradient((u, v), data)
        root = sp.sqrt(sp.Integer(width))
        drive = slope.subs(f, sum(a * b for a, b in zip(u, v, strict=True)) / root) / root
        rest = [
            g - drive * w for part, other in zip(slopes, (v, u), strict=True) for g, w in zip(part, other, strict=True)
        ]
        if any(sp.expand(e) != 0 for e in rest):
            raise CannotTrace(
                "the gradient of the loss is not (dL/df) (v, u)/sqrt(n) with f = u.v/sqrt(n)",
                "give the loss of a two-layer linear net with scalar input and output",
            )
    return sp.factor(slope)


def gram_map(loss: Callable, rule: Callable, **settings: Any) -> GramMap:
    """The exact map of ``loss`` trained by ``rule``, at every width n, from any weights and any fast state.

    loss      of `output_slope`'s form, traced, with one example of input 1 and label y
    rule      an optax factory without slow state; settings: see `theory.edge`
    Time: one step.  Raises `NoLinearEdge` for a rule that adapts, `CannotTrace` for a loss of another form.
    """
    held = held_map(rule, **settings)
    if held.slow:
        raise NoLinearEdge(f"{describe(rule)} adapts a preconditioner: its step is not linear in (w, fast state)")
    slope = output_slope(loss)
    size = held.matrix.rows
    factor = (held.matrix + s * held.inject * sp.eye(size)[0, :]).applyfunc(sp.factor)
    sums, differences = (_symmetric(name, size) for name in "PQ")
    output = sp.sqrt(n) * (sums[0, 0] - differences[0, 0]) / 4
    kernel = (sums[0, 0] + differences[0, 0]) / 2
    drive = sp.factor(slope.subs(f, output) / sp.sqrt(n))
    step: dict[sp.Symbol, sp.Expr] = {}
    for gram, sign in ((sums, 1), (differences, -1)):
        moved = factor.subs(s, sign * s) * gram * factor.subs(s, sign * s).T
        for i in range(size):
            for j in range(i, size):
                step[gram[i, j]] = moved[i, j].subs(s, drive)
    free = list(step)
    return GramMap(
        statement="the Gram matrices of (u + v, its fast state) and (u - v, its fast state) move by A(s) G A(s)^T and "
        "A(-s) G A(-s)^T: exact and closed at every width; from rest (fast state zero) the net of any width moves as "
        "two scalars",
        assumptions=(
            "one example with input 1; full batch; the rule is linear in (w, fast state) and acts on each weight alone",
            *held.assumptions,
        ),
        source=f"{describe(rule)} on the traced gradient of the loss",
        expressions={
            "drive": slope / sp.sqrt(n),
            "output": output,
            "curvature": kernel,
            **{f"{e}_next": v for e, v in step.items()},
        },
        arguments={"f": f, "n": n, "y": y, **held.parameters.symbols, **{str(e): e for e in free}},
        sums=sums,
        differences=differences,
        step=step,
        factor=factor,
        drive=drive,
        output=output,
        curvature=kernel,
        symbols=dict(held.parameters.symbols),
    )


def linearised_at_minimum(found: GramMap) -> sp.Expr:
    """Characteristic polynomial, in z, of the output f and its memory near a minimum f = y = 0 of curvature lambda.

    Perturb from (P, Q) = (lambda, lambda), all else zero; f and the memory that drives it are odd under the exchange of
    the two Gram matrices, and only entries linear in w stay of first order: the first rows of (sums - differences).
    It must equal z - 1 + k Q(z) (times the rule's own denominator) with k = eta lambda.
    """
    z = sp.Symbol("z")
    size = found.sums.rows
    rest = {e: sp.Integer(0) for e in found.step} | {found.sums[0, 0]: curvature, found.differences[0, 0]: curvature}
    odd = [(found.sums[0, j], found.differences[0, j]) for j in range(size)]
    after = [(found.step[a] - found.step[b]).subs(y, 0) for a, b in odd]
    # along the odd direction a moves by +1/2 and b by -1/2
    jacobian = sp.Matrix(
        [[sp.expand((sp.diff(e, a) - sp.diff(e, b)) / 2).subs(rest) for a, b in odd] for e in after]
    ).applyfunc(sp.factor)
    return sp.factor((z * sp.eye(size) - jacobian).det(method="berkowitz"))


def _symmetric(name: str, size: int) -> sp.Matrix:
    entry = np.empty((size, size), dtype=object)
    for i in range(size):
        for j in range(i, size):
            entry[i, j] = entry[j, i] = sp.Symbol(f"{name}{i}{j}", real=True)
    return sp.Matrix(entry)
