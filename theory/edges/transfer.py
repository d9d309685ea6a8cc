"""The held map split into preconditioner P and filter Q, as polynomials in z.

Convention: P depends only on updated slow leaves and eps, and P = 1 when every second-moment leaf is 1 and eps = 0:
where P is a power far out, that power without any regulariser, so that an eps written as a number in the code does not
count.  All other constants belong to Q; eta belongs to neither.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import mpmath as mp
import sympy as sp
from mpmath.libmp import NoConvergence
from sympy.polys.polyerrors import BasePolynomialError

from theory.edges.held_step import UpdateMap
from theory.errors import NoLinearEdge
from theory.simplify import tidy

z = sp.Symbol("z")
k = sp.Symbol("k")
_U = sp.Symbol("u", positive=True)  # slow = 1/u^2
_DIGITS = 30


@dataclass(frozen=True)
class Transfer:
    """a(z) + k b(z) = 0 with k = eta lambda(P^-1 matrix): coefficients from z^n down, no common factor, a monic.

    numerator / denominator = Q(z).  ``matrix`` is H + ``coupled`` I; ``decay``: decoupled weight decay omega.
    ``spectators``: coefficients of the common factor that was divided out, modes that do not move with k;
    ``structural``: its factors with roots on |z| = 1.
    """

    a: tuple[sp.Expr, ...]
    b: tuple[sp.Expr, ...]
    numerator: tuple[sp.Expr, ...]
    denominator: tuple[sp.Expr, ...]
    preconditioner: sp.Expr
    matrix: sp.Expr
    coupled: sp.Expr
    decay: sp.Expr
    spectators: tuple[sp.Expr, ...]
    structural: tuple[sp.Expr, ...]
    notes: tuple[str, ...]


def split(held: UpdateMap) -> Transfer:
    """Split the held map; raises `NoLinearEdge` if the filter itself depends on the slow state."""
    eta = held.parameters.eta
    notes: list[str] = []
    coupled, matrix = _uncouple(held)
    reach = _reach(matrix, held.inject)
    unit, power, at_unit = _unit(held, reach)
    precondition = tidy(unit / reach)
    if not held.slow:
        precondition = sp.Integer(1)
    n = matrix.rows
    scaled, inject = (m.applyfunc(lambda e: tidy(e.xreplace(at_unit))) for m in (matrix, held.inject))
    free, adjugate = _resolvent(scaled)
    # det(z - M - v e') = det(z - M) - e' adj(z - M) v, and e' adj(z - M) e is the fast state's own polynomial
    loop = [sp.Integer(0), *(-(row * inject)[0] for row in adjugate)]
    a = [_settle(c) for c in free]
    b = [tidy(_settle(c * _U ** (-2 * power)) / eta) for c in loop]
    fast = [_settle(row[0]) for row in adjugate]
    _require_separable(held, matrix, reach)
    decay = tidy((1 - matrix[0, 0]) / eta)
    if any(matrix[i, 0] != 0 for i in range(1, n)):
        notes.append("weight decay passes through the filter: the characteristic polynomial carries it")
        decay = sp.Integer(0)
    fast, numerator, _ = _reduce([sp.Integer(0), *fast], b)
    a, b, common = _reduce(a, b)
    spectators = tuple(common.all_coeffs())
    structural = _on_circle(common, held)
    for factor in structural:
        root = f"a structural root on the unit circle, {sp.sstr(factor)} = 0"
        notes.append(f"{root}, does not move with k and is set aside")
    hessian = sp.Symbol("H")
    shifted = hessian + coupled * sp.Symbol("I") if coupled != 0 else hessian
    if coupled != 0:
        notes.append(f"coupled weight decay: H is replaced by H + ({sp.sstr(coupled)}) I, in the second moments too")
    if decay != 0:
        notes.append("decoupled weight decay: H is the loss's own, at the shifted centre grad L = -omega P w")
    return Transfer(
        tuple(a),
        tuple(b),
        tuple(numerator),
        tuple(fast),
        precondition,
        shifted,
        coupled,
        decay,
        spectators,
        tuple(structural),
        tuple(notes),
    )


def _uncouple(held: UpdateMap) -> tuple[sp.Expr, sp.Matrix]:
    """Coupled decay: the weight enters exactly as the gradient does, column = e_w (1 - eta omega) + coupled inject."""
    n = held.matrix.rows
    pairs = [(held.matrix[i, 0], held.inject[i]) for i in range(1, n)]
    if n == 1:  # without fast state, coupled and decoupled differ in whether P divides the decay
        pairs = [(held.matrix[0, 0] - 1, held.inject[0])] if held.slow else []
    ratios = [tidy(column / drive) for column, drive in pairs if drive != 0]
    if not ratios or ratios[0] == 0 or any(r != ratios[0] for r in ratios):
        return sp.Integer(0), held.matrix
    coupled = ratios[0]
    dead = any(column != 0 for column, drive in pairs if drive == 0)
    if dead or coupled.free_symbols & set(held.slow):
        return sp.Integer(0), held.matrix
    matrix = held.matrix.copy()
    for i in range(n):
        matrix[i, 0] = tidy(matrix[i, 0] - coupled * held.inject[i])
    return coupled, matrix


def _reach(matrix: sp.Matrix, inject: sp.Matrix) -> sp.Expr:
    """First nonzero impulse coefficient from gradient to weight."""
    carry = inject
    for _ in range(matrix.rows + 1):
        if tidy(carry[0]) != 0:
            return tidy(carry[0])
        carry = matrix * carry
    raise NoLinearEdge("the gradient never reaches the weight")


def _far(held: UpdateMap) -> dict:
    """Second moments at 1/u^2 with u -> 0, eps at 0."""
    return dict.fromkeys(held.slow, _U**-2) | dict.fromkeys(held.parameters.eps, sp.Integer(0))


def _unit(held: UpdateMap, reach: sp.Expr) -> tuple[sp.Expr, sp.Expr, dict]:
    """The reach at P = 1, the power p of P ~ slow^p, and where the slow leaves and eps stand for it.

    A P that is no power law far out (a logarithm, an exponential, a bound) is 1 where the slow leaves are 1.
    """
    if not held.slow:
        return reach, sp.Integer(0), _far(held)
    far = reach.xreplace(_far(held))
    values = {s: sp.N(v, _DIGITS) for s, v in held.parameters.numbers().items()}
    sizes = [far.xreplace(values).xreplace({_U: sp.Float(2, _DIGITS) ** -n}) for n in (60, 80, 100)]
    if all(s.is_number and s.is_finite and s != 0 for s in sizes) and far.is_algebraic_expr(_U):
        slopes = [sp.N(sp.log(sp.Abs(a / b), 2) / 40, 12) for a, b in pairwise(sizes)]
        power = sp.nsimplify(slopes[1], rational=True, tolerance=1e-6)
        if abs(slopes[0] - slopes[1]) < 1e-6 and power.q <= 12:
            unit = _settle(far * _U ** (-2 * power))
            if unit.is_finite is not False and unit != 0 and not unit.has(sp.oo, sp.zoo, sp.nan):
                return unit, power, _far(held)
    one = dict.fromkeys(held.slow, sp.Integer(1)) | dict.fromkeys(held.parameters.eps, sp.Integer(0))
    return tidy(reach.xreplace(one)), sp.Integer(0), one


def _settle(expr: sp.Expr) -> sp.Expr:
    """The value at u -> 0."""
    expr = tidy(expr)
    if _U not in expr.free_symbols:
        return expr
    direct = expr.xreplace({_U: sp.Integer(0)})
    return tidy(direct if direct.is_finite is not False and not direct.has(sp.nan, sp.zoo) else sp.limit(expr, _U, 0))


def _resolvent(matrix: sp.Matrix) -> tuple[list[sp.Expr], list[sp.Matrix]]:
    """Coefficients of det(z - matrix), and of the first row of its adjugate, both from the highest power of z down.

    By Faddeev and LeVerrier, in lowest terms at every step (roots may occur).
    """
    n = matrix.rows
    coefficients: list[sp.Expr] = [sp.Integer(1)]
    rows: list[sp.Matrix] = []
    moved = sp.zeros(n, n)
    for j in range(1, n + 1):
        power = (moved + coefficients[-1] * sp.eye(n)).applyfunc(tidy)
        rows.append(power[0, :])
        moved = (matrix * power).applyfunc(tidy)
        coefficients.append(tidy(-moved.trace() / j))
    return coefficients, rows


def _require_separable(held: UpdateMap, matrix: sp.Matrix, reach: sp.Expr) -> None:
    """P must divide the whole loop: a(z) free of the slow state, b(z) proportional to 1/P, probed with numbers."""
    if not held.slow:
        return
    rng = random.Random(3)
    values = {s: sp.N(v, _DIGITS) for s, v in held.parameters.numbers().items()}
    n = matrix.rows
    rows = []
    for _ in range(2):
        numbers = values | {s: sp.Float(rng.uniform(0.5, 2.0), _DIGITS) for s in held.slow}
        m = matrix.applyfunc(lambda e, numbers=numbers: sp.N(e.xreplace(numbers), _DIGITS))
        v = held.inject.applyfunc(lambda e, numbers=numbers: sp.N(e.xreplace(numbers), _DIGITS))
        drive = sp.zeros(n, n)
        drive[:, 0] = v
        at = [sp.Float(x, _DIGITS) for x in (1.7, -2.3, 0.4)]
        free = [(x * sp.eye(n) - m).det(method="berkowitz") for x in at]
        loop = [(x * sp.eye(n) - m - drive).det(method="berkowitz") - f for x, f in zip(at, free, strict=True)]
        divide = sp.N(reach.xreplace(numbers), _DIGITS)
        rows.append([*free, *(x / divide for x in loop)])
    if any(abs(x - y) > sp.Float(10) ** (8 - _DIGITS) * (1 + abs(x)) for x, y in zip(*rows, strict=True)):
        raise NoLinearEdge("the filter itself depends on the slow state: no single preconditioner P divides the loop")


def _common(pa: sp.Poly, pb: sp.Poly) -> sp.Poly:
    """Their greatest common divisor; 1 where SymPy cannot divide (numbers under nested roots): a factor that is left in
    is a mode that does not move with k, which the windows, found from numbers, tolerate.
    """
    if _coprime(pa, pb):
        return sp.Poly(1, z)
    try:
        return sp.gcd(pa, pb)
    except BasePolynomialError:
        return sp.Poly(1, z)


def _coprime(pa: sp.Poly, pb: sp.Poly) -> bool:
    """Whether they have no root in common at one random point: then a common divisor in symbols cannot exist either."""
    rng = random.Random(5)
    symbols = sorted(pa.free_symbols_in_domain | pb.free_symbols_in_domain, key=str)
    point = {s: sp.Float(rng.uniform(0.1, 0.9), _DIGITS) for s in symbols}
    try:
        with mp.workdps(_DIGITS):
            a, b = ([mp.mpmathify(sp.N(c.xreplace(point), _DIGITS)) for c in p.all_coeffs()] for p in (pa, pb))
            roots = mp.polyroots(a, maxsteps=200, extraprec=4 * _DIGITS) if len(a) > 1 else []
            size = max(abs(c) for c in b)
            return all(abs(mp.polyval(b, r)) > mp.mpf(10) ** -6 * size * (1 + abs(r)) ** (len(b) - 1) for r in roots)
    except (NoConvergence, TypeError, ValueError, ZeroDivisionError):
        return False


def _reduce(a: list[sp.Expr], b: list[sp.Expr]) -> tuple[list, list, sp.Poly]:
    """Divide out what a and b have in common; return the common factor too."""
    pa, pb = sp.Poly(a, z), sp.Poly(b, z)
    common = _common(pa, pb)
    if common.degree() > 0:
        pa, pb = sp.div(pa, common)[0], sp.div(pb, common)[0]
    a, b = pa.all_coeffs(), pb.all_coeffs()
    lead = a[0]
    a, b = [tidy(sp.together(c / lead)) for c in a], [tidy(sp.together(c / lead)) for c in b]
    return a, [sp.Integer(0)] * (len(a) - len(b)) + b, common


def _on_circle(common: sp.Poly, held: UpdateMap) -> list[sp.Expr]:
    """Factors of the common factor with roots on the unit circle; roots outside make the rule unstable by itself."""
    structural = []
    values = held.parameters.numbers()
    for factor, _ in sp.factor_list(common.as_expr(), z)[1] if common.degree() > 0 else ():
        if z not in factor.free_symbols:
            continue
        roots = sp.Poly(factor.xreplace(values), z).nroots(n=20)
        if any(abs(r) > 1 + 1e-9 for r in roots):
            raise NoLinearEdge(f"the held step is unstable by itself: {sp.sstr(factor)} = 0 does not depend on k")
        if any(abs(abs(r) - 1) < 1e-9 for r in roots):
            structural.append(factor)
    return structural
