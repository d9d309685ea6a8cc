"""The central flow of gradient descent: how the centre of its oscillation at the edge moves.

With w = centre + x u, <x> = 0 and <x^2> = sigma^2, the mean of grad L is grad L + (sigma^2/2) grad S
(`theory.averaged_gradient`).  sigma^2 is what keeps the sharpness S at its edge.  Vectors are written in the span of
grad L and of the gradients of the critical block of H: only inner products enter, no coordinates and no dimension.
Time: one step.  Source of the statements: Cohen, Damian et al. 2410.24206, where they are argued for; derived here.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import sympy as sp

from theory.losses.mean_gradient import averaged_gradient
from theory.losses.plane_jet import S, symbolic_jet
from theory.losses.taylor import x
from theory.theorem import Theorem

eta = sp.Symbol("eta", positive=True)
sharpening = sp.Symbol("gS", real=True)
"""<-grad L, grad S>: how fast descent would raise the sharpness."""
slope_sq = sp.Symbol("SS", positive=True)
"""|grad S|^2."""
gradient_sq = sp.Symbol("gg", nonnegative=True)
"""|grad L|^2."""
variance = sp.Symbol("V", nonnegative=True)
"""sigma^2 = <x^2>."""


def oscillation_share() -> sp.Expr:
    """c in <grad L> = grad L + c grad S, from the fifth-order jets of `averaged_gradient`; sigma^2/2, shown for each
    component by itself.
    """
    derived = averaged_gradient().expressions
    shares = set()
    for j in range(2):
        slope = derived[f"sharpness_slope_{j}"]
        shares.add(sp.cancel(sp.expand(derived[f"mean_gradient_{j}"]).coeff(x, 2) / slope))
    (share,) = shares
    return share * variance


def mean_excess() -> tuple[sp.Expr, sp.Expr]:
    """The mean loss in excess of the loss at the centre, and the mean square of the alternating part of the gradient.

    Both are of order sigma^2: sigma^2 S/2 and sigma^2 S^2, from the Taylor polynomial of the loss.
    """
    local = symbolic_jet().expansion()
    along = {c: sp.Integer(0) for c in local.coordinates[1:]}
    loss = local.polynomial.xreplace(along)
    mean = sp.expand((loss + loss.xreplace({x: -x})) / 2)
    oscillation = [sp.expand((e.xreplace(along) - e.xreplace(along).xreplace({x: -x})) / 2) for e in local.gradient()]
    square = sp.expand(sum(e**2 for e in oscillation))
    return mean.coeff(x, 2) * variance, square.coeff(x, 2) * variance


@lru_cache(maxsize=1)
def central_flow_gd() -> Theorem:
    """One eigenvalue at the edge: w' = -eta [grad L + (sigma^2/2) grad S], sigma^2 such that S stays at 2/eta.

    **Expressions** in gS = <-grad L, grad S> (`sharpening`), SS = |grad S|^2 (`slope_sq`), gg = |grad L|^2
    (`gradient_sq`), V = sigma^2: `sharpness_rate` at any V; `variance`; at this variance `speed_sq` = |w'|^2
    and `loss_rate` = -|w'|^2/eta, which is not positive by Cauchy and Schwarz; at any V `mean_loss_excess`, what the
    oscillation adds to the mean loss, and `mean_gradient_sq`, the mean of |grad L|^2 over the oscillation.

    Below the edge, and where `variance` is not positive, sigma^2 = 0: the flow then leaves the edge downwards.

    Example:
        >>> import theory
        >>> print(theory.central_flow_gd().expressions["variance"])
        2*gS/SS
    """
    gram = sp.Matrix([[gradient_sq, -sharpening], [-sharpening, slope_sq]])

    def inner(a: sp.Matrix, b: sp.Matrix) -> sp.Expr:
        return sp.expand((a.T * gram * b)[0])

    gradient, slope = sp.Matrix([1, 0]), sp.Matrix([0, 1])
    velocity = -eta * (gradient + oscillation_share() * slope)
    rate = inner(slope, velocity)
    (held,) = sp.solve(rate, variance)
    at_edge = {variance: held}
    loss_rate = sp.cancel(inner(gradient, velocity).xreplace(at_edge))
    speed_sq = sp.cancel(inner(velocity, velocity).xreplace(at_edge))
    if sp.expand(loss_rate + speed_sq / eta) != 0:
        raise ArithmeticError("dL/dt along the flow is not -|w'|^2/eta")
    loss_excess, alternating = mean_excess()
    edge = {S: 2 / eta}
    return Theorem(
        statement="w' = -eta [grad L + (V/2) grad S] with V = 2 <-grad L, grad S>/|grad S|^2 stays at S = 2/eta and "
        "descends: dL/dt = -|w'|^2/eta",
        assumptions=(
            "one simple eigenvalue at the edge; below it V = 0",
            "V = <x^2> varies slowly; terms of order V^2 (fourth derivatives of L) are left out",
            "V >= 0, else the flow leaves the edge",
        ),
        source="averaged Taylor expansion of grad L; Cohen, Damian et al. 2410.24206, eq. of the central flow of GD",
        expressions={
            "sharpness_rate": rate,
            "variance": held,
            "loss_rate": sp.expand(loss_rate),
            "speed_sq": sp.expand(speed_sq),
            "mean_loss_excess": loss_excess.xreplace(edge),
            "mean_gradient_sq": sp.expand(inner(velocity, velocity) / eta**2) + alternating.xreplace(edge),
        },
        arguments={
            "learning_rate": eta,
            "sharpening": sharpening,
            "slope_sq": slope_sq,
            "gradient_sq": gradient_sq,
            "variance": variance,
        },
    )


PAIRS = ((0, 0), (0, 1), (1, 1))
"""Entries of a symmetric 2 x 2 block, in the order in which they are listed."""


@lru_cache(maxsize=1)
def central_flow_gd_block() -> Theorem:
    """Two eigenvalues at the edge: Sigma = U X U^T with X >= 0 such that (2/eta) I - U^T H U = C stays >= 0.

    With d_ab = grad (u_a^T H u_b) and the inner products g_ab = <grad L, d_ab>, G_abcd = <d_ab, d_cd>, C' = A + B[X]:
    where both eigenvalues touch the edge X solves the complementarity problem

        X >= 0,   A + B[X] >= 0,   <X, A + B[X]> = 0,   the minimum of `objective` = <X, B[X]>/2 + <A, X> over X >= 0.

    **Expressions**: `drive` (3, 1), A, and `system` (3, 3), B, on (X11, X12, X22), so that X = -B^-1 A wherever that
    is positive definite; `objective`; `complementarity` <X, A + B[X]>; `loss_rate` = -|w'|^2/eta + <X, A + B[X]>/2,
    hence -|w'|^2/eta along the flow; `speed_sq`.  Arguments `g11`.., `G1111`.., `X11`.., `gradient_sq`.

    Example:
        >>> import theory
        >>> print(theory.central_flow_gd_block().expressions["drive"].T)
        Matrix([[eta*g11, eta*g12, eta*g22]])
    """
    entries = sp.symbols("X11 X12 X22", real=True)
    first = sp.symbols("g11 g12 g22", real=True)
    second = {
        (i, j): sp.Symbol(f"G{_index(PAIRS[min(i, j)])}{_index(PAIRS[max(i, j)])}", real=True)
        for i, j in itertools.product(range(3), repeat=2)
    }
    gram = sp.zeros(4, 4)
    gram[0, 0] = gradient_sq
    for i in range(3):
        gram[0, 1 + i] = gram[1 + i, 0] = first[i]
        for j in range(3):
            gram[1 + i, 1 + j] = second[i, j]
    velocity = -eta * (sp.Matrix([1, 0, 0, 0]) + sp.Matrix([0, *_share_of_block(entries)]))
    unit = sp.eye(4)
    excess = [-sp.expand((unit[:, 1 + i].T * gram * velocity)[0]) for i in range(3)]
    drive = [e.xreplace(dict.fromkeys(entries, sp.Integer(0))) for e in excess]
    system = sp.Matrix(excess).jacobian(entries)
    # an off-diagonal entry stands twice in the trace <X, C>
    weights = [1 if a == b else 2 for a, b in PAIRS]
    complementarity = sp.expand(sum(n * v * c for n, v, c in zip(weights, entries, excess, strict=True)))
    linear = sp.expand(sum(n * v * c for n, v, c in zip(weights, entries, drive, strict=True)))
    objective = sp.expand((complementarity - linear) / 2 + linear)
    for n, v, c in zip(weights, entries, excess, strict=True):
        if sp.expand(sp.diff(objective, v) - n * c) != 0:
            raise ArithmeticError("the complementarity problem is not the stationarity of its objective")
    speed_sq = sp.expand((velocity.T * gram * velocity)[0])
    loss_rate = sp.expand((unit[:, 0].T * gram * velocity)[0])
    if sp.expand(loss_rate + speed_sq / eta - complementarity / 2) != 0:
        raise ArithmeticError("dL/dt is not -|w'|^2/eta + <X, A + B[X]>/2")
    arguments = {"learning_rate": eta, "gradient_sq": gradient_sq}
    arguments |= {str(v): v for v in (*entries, *first, *dict.fromkeys(second.values()))}
    return Theorem(
        statement="Sigma = U X U^T keeps H <= (2/eta) I with X >= 0, A + B[X] >= 0, <X, A + B[X]> = 0",
        assumptions=(
            "two eigenvalues at the edge, apart from all others; X is listed as (X11, X12, X22)",
            "terms of order |Sigma|^2 are left out",
        ),
        source="averaged Taylor expansion of grad L; Cohen, Damian et al. 2410.24206",
        expressions={
            "drive": sp.ImmutableMatrix(drive),
            "system": sp.ImmutableMatrix(system),
            "objective": objective,
            "complementarity": complementarity,
            "loss_rate": loss_rate,
            "speed_sq": speed_sq,
        },
        arguments=arguments,
    )


def _index(pair: tuple[int, int]) -> str:
    return "".join(str(1 + a) for a in pair)


def _share_of_block(entries: tuple[sp.Symbol, ...]) -> list[sp.Expr]:
    """c_ab in <grad L> = grad L + sum c_ab d_ab, from a cubic loss in two critical coordinates and one other."""
    c1, c2, n = sp.symbols("c1 c2 n")
    slopes = sp.symbols("d11 d12 d22")  # of the entries of the block, along n
    block = sp.Matrix([[slopes[0], slopes[1]], [slopes[1], slopes[2]]])
    critical = sp.Matrix([c1, c2])
    gradient = sp.Poly(sp.expand((critical.T * block * critical)[0] * n / 2).diff(n), c1, c2)
    moments = {(2, 0): entries[0], (1, 1): entries[1], (0, 2): entries[2]}
    mean = sum(coefficient * moments[powers] for powers, coefficient in gradient.terms())
    return [sp.diff(mean, slope) for slope in slopes]
