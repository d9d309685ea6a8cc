"""Hessians of linear nets in closed form, each derived from the traced loss and its characteristic polynomial.

Rotations of the weights that leave the loss alone bring any point to a few symbols; sizes are explicit where they must
be, and what the docstrings say beyond them follows because a Hessian at a minimum is J^T J with J a sum of Kronecker
products, whose eigenvalues do not know the size.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import sympy as sp
from sympy.polys.matrices import DomainMatrix

from theory.errors import CannotTrace
from theory.theorem import Theorem
from theory.toy_losses.gram import curvature, f, n, output_slope, s, y
from theory.tracing.interpreter import objects, symbolically

z = sp.Symbol("z")


def two_layer_hessian(loss: Callable) -> Theorem:
    """All eigenvalues of the Hessian of the two-layer linear net at any weights: width n >= 2, label y.

    `loss` as in `theory.toy_losses.gram.output_slope`, half a squared error.  The Hessian is traced at width 4, at
    weights in a plane, which loses nothing: a common rotation of u and v leaves the loss alone, and weights outside the
    plane only add to the multiplicity of +-s.  Expressions: drive s = (f - y)/sqrt(n); sharpness and its partner, the
    roots of z^2 - lambda z - (s^2 + 2 s f/sqrt(n)); sharpness_zero_label at y = 0.
    """
    width = 4
    u1, v1, v2 = sp.symbols("u1 v1 v2", real=True)
    zero = sp.Integer(0)
    weights = (objects([u1, zero, zero, zero]), objects([v1, v2, zero, zero]))
    data = (objects([sp.Integer(1)]), objects([y]))
    blocks = symbolically(jax.hessian(loss))(weights, data)
    polynomial = _characteristic(np.block([[blocks[i][j] for j in range(2)] for i in range(2)]))
    drive = (output_slope(loss) / sp.sqrt(n)).subs(n, width)
    at_weights = {f: u1 * v1 / sp.sqrt(sp.Integer(width)), curvature: (u1**2 + v1**2 + v2**2) / width}
    bulk = sp.Poly((z**2 - drive.subs(at_weights) ** 2) ** (width - 1), z)
    pair, rest = sp.div(polynomial, bulk)
    if not rest.is_zero or pair.degree() != 2:
        raise CannotTrace(
            "the Hessian does not have the eigenvalues +-s, each n - 1 times", "half a squared error is needed"
        )
    _, trace, determinant = pair.all_coeffs()
    # the planar weights as functions of (f, lambda): v1 from f, v2^2 from lambda; u1 must drop out
    back = {v2: sp.sqrt(width * curvature - u1**2 - v1**2)}
    trace, determinant = (
        sp.factor(sp.expand(e.subs(back)).subs(v1, sp.sqrt(width) * f / u1)) for e in (trace, determinant)
    )
    if u1 in trace.free_symbols | determinant.free_symbols:
        raise CannotTrace("the Hessian is not a function of f and lambda")
    # the width enters through f/sqrt(n) and y/sqrt(n) alone: the loss has no other
    wide = {f: f * sp.sqrt(width) / sp.sqrt(n), y: y * sp.sqrt(width) / sp.sqrt(n)}
    half, product = -trace.subs(wide, simultaneous=True) / 2, sp.expand(determinant.subs(wide, simultaneous=True))
    root = sp.sqrt(half**2 - product)
    return Theorem(
        statement="the Hessian of the two-layer linear net has the eigenvalues s, -s (n - 1 times each) and "
        "(lambda +- sqrt(lambda^2 + 8 s f/sqrt(n) + 4 s^2))/2",
        assumptions=("one example with input 1, half its squared error", "any weights, width n >= 2"),
        source="the traced Hessian of the loss",
        expressions={
            "drive": output_slope(loss) / sp.sqrt(n),
            "sharpness": half + root,
            "partner": half - root,
            "sharpness_zero_label": (half + root).subs(y, 0),
        },
        arguments={"f": f, "lambda_": curvature, "n": n, "y": y, "s": s},
    )


def factorisation_hessian(loss: Callable) -> Theorem:
    """The nonzero Hessian eigenvalues of |U V^T - M|_F^2/2 at a minimum that fits M: mu_i(U U^T) + nu_j(V V^T).

    ``loss((U, V), data)``, data (1, m, k), is traced at 2 x 2, rank 2.  By U -> R U G, V -> T V G (R, T, G rotations;
    M follows) U is diagonal and V a diagonal times one rotation, here by a general angle as (1 - t^2, 2 t)/(1 + t^2).
    Expressions: eigenvalue (of one pair), sharpness (of the largest singular values sigma_u, sigma_v).
    """
    a1, a2, b1, b2, t = sp.symbols("a1 a2 b1 b2 t", real=True)
    cosine, sine = (1 - t**2) / (1 + t**2), 2 * t / (1 + t**2)
    u = np.array([[a1, sp.Integer(0)], [sp.Integer(0), a2]], dtype=object)
    v = np.array([[b1 * cosine, b1 * sine], [-b2 * sine, b2 * cosine]], dtype=object)
    blocks = symbolically(jax.hessian(loss))((u, v), (u @ v.T)[None])
    hessian = np.block([[np.reshape(blocks[i][j], (4, 4)) for j in range(2)] for i in range(2)])
    expected = sp.Poly(z**4, z)
    for left in (a1, a2):
        for right in (b1, b2):
            expected = expected * sp.Poly(z - left**2 - right**2, z)
    if not (_characteristic(hessian) - expected).is_zero:
        raise CannotTrace(
            "the nonzero eigenvalues are not the sums a_i^2 + b_j^2", "half the squared Frobenius norm is needed"
        )
    left, right = sp.symbols("sigma_u sigma_v", nonnegative=True)
    return Theorem(
        statement="at a minimum that fits M the sharpness of a matrix factorisation is sigma_max(U)^2 + sigma_max(V)^2",
        assumptions=(
            "a global minimum with U V^T = M",
            "shown at 2 x 2 and rank 2; J J^T is a Kronecker sum at every size",
        ),
        source="the traced Hessian of the loss",
        expressions={"sharpness": left**2 + right**2},
        arguments={"sigma_u": left, "sigma_v": right},
    )


def deep_linear_hessian(loss: Callable, depth: int) -> Theorem:
    """Hessian eigenvalues of a deep linear net at a balanced global minimum: sum_l tau_i^2(L-l) tau_j^2(l-1).

    ``loss(weights, (inputs, labels))`` with weights (L, d, d) and X^T X = (number of examples) I, traced at d = 2 with
    W_l = diag(tau): rotations between the layers bring every balanced minimum there, and tau_i^L = sigma_i(A).
    Expressions: eigenvalue (of the pair i, j, in sigma_i, sigma_j), sharpness (in sigma, the largest).
    """
    tau = sp.symbols("tau1 tau2", positive=True)
    layer = np.array([[tau[0], sp.Integer(0)], [sp.Integer(0), tau[1]]], dtype=object)
    weights = np.stack([layer] * depth)
    inputs = objects(np.array([[1, 1], [1, -1]] * 2))
    target = np.array([[tau[0] ** depth, sp.Integer(0)], [sp.Integer(0), tau[1] ** depth]], dtype=object)
    size = 4 * depth
    hessian = np.reshape(symbolically(jax.hessian(loss))(weights, (inputs, inputs @ target.T)), (size, size))
    expected = sp.Poly(z ** (size - 4), z)
    for i in tau:
        for j in tau:
            value = sum(i ** (2 * (depth - layer)) * j ** (2 * (layer - 1)) for layer in range(1, depth + 1))
            expected = expected * sp.Poly(z - value, z)
    if not (_characteristic(hessian) - expected).is_zero:
        raise CannotTrace("the eigenvalues at a balanced minimum are not the expected sums")
    first, second = sp.symbols("sigma_i sigma_j", positive=True)
    sigma = sp.Symbol("sigma", positive=True)
    part = sp.Rational(2, depth)
    eigenvalue = sum(
        first ** (part * (depth - layer)) * second ** (part * (layer - 1)) for layer in range(1, depth + 1)
    )
    return Theorem(
        statement=f"at a balanced global minimum the sharpness of a deep linear net of depth {depth} is "
        f"{depth} sigma_1(A)^(2 - 2/{depth})",
        assumptions=(
            "a balanced global minimum, whitened inputs",
            "shown at d = 2; J J^T is a sum of Kronecker products",
        ),
        source="the traced Hessian of the loss",
        expressions={
            "eigenvalue": eigenvalue,
            "sharpness": sp.powsimp(eigenvalue.subs({first: sigma, second: sigma})),
        },
        arguments={"sigma_i": first, "sigma_j": second, "sigma": sigma},
    )


def _characteristic(matrix: np.ndarray) -> sp.Poly:
    """det(z - matrix) as a polynomial in z, by fraction-free elimination over the field of the entries."""
    table = sp.Matrix(matrix).applyfunc(sp.together)
    coefficients = DomainMatrix.from_Matrix(table).to_field().charpoly()
    field = DomainMatrix.from_Matrix(table).to_field().domain
    return sp.Poly([sp.cancel(field.to_sympy(e)) for e in coefficients], z)
