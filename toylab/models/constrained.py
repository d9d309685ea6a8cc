"""Gradient descent held at the edge: the trajectory that self-stabilization follows on average."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from toylab.curvature import dense_hessian, sharpness_gradient, top_eigenpairs
from toylab.models.kernel import Kernel
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem

PyTree = Any

DENSE = 16
"""The most weights for which the Hessian is diagonalised: a Krylov space would span everything as well."""


class Validity(IntEnum):
    """Whether the one-eigenvalue picture still holds.  Anything but `ok` freezes the trajectory where it is."""

    ok = 0
    eigengap_closed = 1  # the second eigenvalue is near the first, both below the edge: u is not defined
    second_at_edge = 2  # a second eigenvalue has reached the edge: more than one direction oscillates
    projection_failed = 3  # no point of the constraint set was found near the step
    nonfinite = 4  # loss, gradient or Hessian left the finite numbers


class ConstrainedPoint(NamedTuple):
    """The point of the trajectory that a step leaves, with the derivatives there.

    `sharpness`, `second` the two top eigenvalues (the second NaN in one dimension); `slope` = grad L . u; `active`
    whether the sharpness constraint holds the step that follows back; `variance` = 2 |its multiplier|/eta: the
    mean of x^2 that holds the sharpness, 0 where nothing is held back.  It is 2 alpha/beta while eta |grad L_perp|^2 is
    small against alpha; where the weights drift faster, the bending of the edge counts as much as alpha;
    `sharpening_rate` = -grad L . grad S; `grad_sharpness_sq` = |grad S_perp|^2, perp to u; `iterations` of the
    projection, and the Hessian `products` of its eigenpairs.
    """

    params: PyTree
    loss: Array
    sharpness: Array
    second: Array
    slope: Array
    active: Array
    variance: Array
    sharpening_rate: Array
    grad_sharpness_sq: Array
    iterations: Array
    products: Array


class Local(NamedTuple):
    """The local geometry at flat weights w: loss, gradient, top pair of eigenvalues with vectors (2, p), grad S, and
    the Hessian products that the eigenpairs took."""

    loss: Array
    gradient: Array
    values: Array
    vectors: Array
    sharpness_gradient: Array
    products: Array

    def across(self) -> Array:
        """grad S_perp, the part of grad S that is orthogonal to the top eigenvector, (p,)."""
        return self.sharpness_gradient - (self.sharpness_gradient @ self.vectors[0]) * self.vectors[0]


class Constrained(NamedTuple):
    """A point w_dagger, the geometry there, and a `Validity`, ()."""

    params: PyTree
    here: Local
    status: Array


class Search(NamedTuple):
    """A projection under way: the last point and its geometry, the multiplier (<= 0) of grad S_perp that led there,
    the next (point, multiplier), whether the last point lies on M, how many points were looked at, and the Hessian
    products that this took.
    """

    point: Array
    here: Local
    multiplier: Array
    proposed: tuple[Array, Array]
    found: Array
    count: Array
    products: Array


def local_geometry(problem: Problem, params: PyTree, vectors: Array, tolerance: float) -> Local:
    """Loss, gradient, the two top eigenpairs and the gradient of the sharpness at `params`, on flat weights.

    `vectors` (2, p): a warm start, and the sign of the first vector follows it.  grad S: see `sharpness_gradient`.
    `tolerance`: relative residual at which the eigenvectors are accepted (exact up to `DENSE` weights); the
    eigenvalue's error is of its square.  In one dimension the second value is NaN.
    """
    flat, unravel = ravel_pytree(params)

    def value(point: Array) -> Array:
        return problem.value(unravel(point))

    def product(vector: Array) -> Array:
        return jax.jvp(jax.grad(value), (flat,), (vector,))[1]

    loss, gradient = jax.value_and_grad(value)(flat)

    if flat.size <= DENSE:
        spectrum, basis = jnp.linalg.eigh(dense_hessian(problem, params))
        top, eigenvectors, products = spectrum[::-1][:2], basis.T[::-1][:2], jnp.asarray(flat.size, jnp.int32)
    else:
        pairs = top_eigenpairs(product, vectors, tolerance=tolerance)
        top, eigenvectors, products = pairs.value, pairs.vector, pairs.products
    values = jnp.full((2,), jnp.nan, flat.dtype).at[: top.size].set(top)
    eigenvectors = vectors.at[: top.size].set(eigenvectors)
    eigenvectors = eigenvectors.at[0].multiply(jnp.where(eigenvectors[0] @ vectors[0] < 0, -1.0, 1.0))
    return Local(loss, gradient, values, eigenvectors, sharpness_gradient(value, flat, eigenvectors[0]), products)


def constrained_trajectory(
    problem: Problem,
    learning_rate: ArrayLike,
    threshold: ArrayLike,
    *,
    iterations: int = 20,
    tolerance: float | None = None,
    gap: float = 0.02,
) -> Kernel:
    """Kernel of projected gradient descent w+ = proj_M(w - eta grad L(w)), M = {S <= threshold, grad L . u = 0}.

    S the largest eigenvalue of the Hessian, u its eigenvector; `threshold` the rule's own edge (2/eta for gradient
    descent, k*/eta otherwise) and `learning_rate` the speed of its averaged motion (eta Q(1)).  Time unit: one step.

    The projection is by Newton steps on both constraints, at most `iterations`, with S and u found anew at each, until
    |S - threshold| <= tolerance * threshold where active and |grad L . u| <= tolerance |grad L|; by
    default the square root of the dtype's rounding, also for the eigenvectors' residual.  They move in the
    plane of u and grad S: the point lies on M to the tolerance, and is the nearest one of M up to the turn of u along
    the step, a relative error O(eta |grad L|).  The sharpness constraint only ever pushes down.

    `init(params)` projects the start onto M too.  `step` gives the `ConstrainedPoint` that it leaves.  The state
    freezes with a `Validity` when the second eigenvalue comes within the fraction `gap` of the threshold, when the gap
    between both falls below that fraction of the first, when the projection fails, or at nonfinite numbers.
    Cost: one to a few eigenpair solves (warm-started) and gradients of u^T H u a step.
    Source: Damian, Nichani & Lee, arXiv:2209.15594, definition of the constrained trajectory.
    """

    def at(unravel: Any) -> Projection:
        return Projection(problem, unravel, threshold, iterations, tolerance)

    @fully_precise
    def init(params: PyTree) -> Constrained:
        flat, unravel = ravel_pytree(params)
        reached = project(flat, jnp.zeros((2, flat.size), flat.dtype), at(unravel))
        return Constrained(unravel(reached.point), reached.here, validity(reached, threshold, gap))

    @fully_precise
    def step(state: Constrained) -> tuple[Constrained, ConstrainedPoint]:
        flat, unravel = ravel_pytree(state.params)
        local, across = state.here, state.here.across()
        reached = project(flat - learning_rate * local.gradient, local.vectors, at(unravel))
        status = jnp.where(state.status == 0, validity(reached, threshold, gap), state.status)
        moved = Constrained(unravel(reached.point), reached.here, status)
        kept = jax.tree.map(lambda a, b: jnp.where(status == 0, a, b), moved, state._replace(status=status))
        left = ConstrainedPoint(
            params=state.params,
            loss=local.loss,
            sharpness=local.values[0],
            second=local.values[1],
            slope=local.gradient @ local.vectors[0],
            active=reached.multiplier < 0,
            variance=-2 * reached.multiplier / learning_rate,
            sharpening_rate=-(local.gradient @ local.sharpness_gradient),
            grad_sharpness_sq=across @ across,
            iterations=reached.count - 1,
            products=reached.products,
        )
        return kept, left

    return Kernel(init, step)


class Projection(NamedTuple):
    """The data of a projection onto M: flat points are `unravel`ed for the problem; the others as in
    `constrained_trajectory`."""

    problem: Problem
    unravel: Callable[[Array], PyTree]
    threshold: ArrayLike
    iterations: int
    tolerance: float | None


def project(target: Array, vectors: Array, onto: Projection) -> Search:
    """The point of M near `target` (p,), found from the eigenvectors `vectors` (2, p) of a point nearby."""
    rounding = float(jnp.finfo(target.dtype).eps)
    within = rounding**0.5 if onto.tolerance is None else onto.tolerance
    # a target at a minimum has no gradient to compare with: then rounding in the Hessian times w
    floor = 10 * rounding * onto.threshold * (1 + jnp.linalg.norm(target))

    def newton(carry: Search) -> Search:
        point, multiplier = carry.proposed
        local = local_geometry(onto.problem, onto.unravel(point), carry.here.vectors, within)
        return Search(
            point=point,
            here=local,
            multiplier=multiplier,
            proposed=newton_step(local, target, point, onto.threshold),
            found=~misses(local, multiplier, onto.threshold, within, floor),
            count=carry.count + 1,
            products=carry.products + local.products,
        )

    zero = jnp.zeros((), target.dtype)
    none = jnp.zeros((), jnp.int32)
    unknown = Local(zero, target, jnp.zeros((2,), target.dtype), vectors, target, none)
    begin = Search(target, unknown, zero, (target, zero), jnp.zeros((), bool), none, none)
    return lax.while_loop(lambda carry: ~carry.found & (carry.count <= onto.iterations), newton, begin)


def newton_step(here: Local, target: Array, point: Array, threshold: ArrayLike) -> tuple[Array, Array]:
    """The next point and the multiplier (<= 0) of grad S_perp that leads there from `target`.

    Newton's method for target + along u + push grad S_perp on both constraints at once, linearised at `point`:
    grad L . u = 0 gives `along`, and S = threshold, where S is above it, `push`.
    """
    u, across, back = here.vectors[0], here.across(), target - point
    along = -(here.gradient @ u) / here.values[0] - back @ u
    rise = here.sharpness_gradient @ back + (here.sharpness_gradient @ u) * along
    square = across @ across
    push = -jnp.maximum(here.values[0] - threshold + rise, 0) / jnp.where(square > 0, square, jnp.inf)
    return target + along * u + push * across, push


def misses(here: Local, multiplier: Array, threshold: ArrayLike, within: float, floor: Array) -> Array:
    """Whether a point lies off the constrained set M, (): true where |S/threshold - 1| > `within` (where the constraint
    is inactive, only if S is above) or |grad L . u| > `within` |grad L| + `floor`."""
    slope = jnp.abs(here.gradient @ here.vectors[0])
    off = here.values[0] / threshold - 1
    far = (off > within) | ((multiplier < 0) & (off < -within))
    return far | (slope > within * jnp.linalg.norm(here.gradient) + floor)


def validity(reached: Search, threshold: ArrayLike, gap: float) -> Array:
    """The `Validity` () of the point that a projection has reached."""
    local, (first, second) = reached.here, reached.here.values
    finite = jnp.isfinite(first) & jnp.isfinite(local.loss) & jnp.all(jnp.isfinite(local.gradient))
    verdicts = [
        (~finite, Validity.nonfinite),
        (second >= (1 - gap) * threshold, Validity.second_at_edge),
        (first - second < gap * jnp.abs(first), Validity.eigengap_closed),
        (~reached.found, Validity.projection_failed),
    ]
    codes = [jnp.asarray(int(code), jnp.int32) for _, code in verdicts]
    return jnp.select([holds for holds, _ in verdicts], codes, jnp.asarray(int(Validity.ok), jnp.int32))
