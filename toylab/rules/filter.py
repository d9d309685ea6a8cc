"""A built transform as a temporal filter: held step -> state space -> stable windows (DESIGN idea 3), numerically.

Near an edge, on a quadratic of Hessian H and with its slow state held, every rule with a linear edge is

    f+ = A f + b g,     w+ = w - decay w + P^-1 (c f + d g),     g = H w  (H + coupled I with coupled decay)

so that with lambda an eigenvalue of P^-1 H the motion along its eigendirection has the characteristic polynomial
``poly0(z) + lambda poly1(z)``.  ``P`` follows the house convention: P = 1 when every second-moment leaf is 1 and
eps = 0.  The learning rate of a built transform cannot be told apart from its filter: everything here is the *step
filter* eta Q(z), and ``threshold`` is the critical lambda_max(P^-1 H) itself (k* / eta).

This module knows no SymPy; `theory.edge` derives the same numbers from the same code on another road.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toylab.rules.held import FAR, NoLinearEdge, Roles, classify, held_step

PyTree = Any

__all__ = [
    "Filter",
    "NoLinearEdge",
    "StateSpace",
    "analyse",
    "held_filter",
    "inverse_preconditioner",
    "limit_state",
    "roles",
    "state_space",
]


class StateSpace(NamedTuple):
    """The held step on one eigendirection, as arrays (leading axes allowed: everything vmaps).

    matrix  (n+1, n+1)  one step of (w, fast state) without gradient (weight decay included)
    inject  (n+1,)      what a unit gradient adds to it
    coupled ()          coupled weight decay, taken out of ``matrix``: H is replaced by H + coupled I
    power   ()          P ~ slow^power for large slow leaves (1/2 for second moments, 1 for running maxima)
    The values are those for P = 1 and eps = 0.
    """

    matrix: Any
    inject: Any
    coupled: Any
    power: Any


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


# ---------------------------------------------------------------------------------------------------------------
# State: autonomous leaves at their limit, slow leaves given, fast leaves zero.


def limit_state(
    transform: optax.GradientTransformation, params: PyTree, roles: Roles | None = None, count: int | None = None
) -> PyTree:
    """The state of ``transform`` with its autonomous leaves at their limit, t -> infinity (or after ``count`` steps).

    A counter becomes a float far beyond every time constant, so that bias corrections are exactly 1; a constant
    (such as an injected hyperparameter) stays; a converging sequence is extrapolated; a growing one becomes huge.
    """
    state = transform.init(params)
    parts = classify(transform, state, params) if roles is None else roles
    leaves, tree = jax.tree.flatten(state)
    zeros = jax.tree.map(jnp.zeros_like, params)

    def autonomous(current: list) -> list:
        after = jax.tree.leaves(transform.update(zeros, jax.tree.unflatten(tree, current), params)[1])
        return [after[i] if i in parts.autonomous else leaf for i, leaf in enumerate(current)]

    if count is not None:
        return jax.tree.unflatten(tree, jax.lax.fori_loop(0, count, lambda _, now: autonomous(now), leaves))
    history = [autonomous(leaves)]
    for _ in range(2):
        history.append(autonomous(history[-1]))
    far = min(FAR, float(jnp.finfo(jnp.result_type(float)).max) ** 0.97)
    counters = list(history[-1])
    for i in parts.autonomous:
        first, second, third = (h[i] for h in history)
        dtype = jnp.result_type(first)
        if jnp.issubdtype(dtype, jnp.integer):  # a counter; an integer that stays put is a constant
            moving = third != second
            counters[i] = jnp.where(moving, far, third.astype(jnp.result_type(float)))
        elif jnp.issubdtype(dtype, jnp.floating):
            counters[i] = _extrapolate(first, second, third, far).astype(dtype)
    return jax.tree.unflatten(tree, counters)


def _extrapolate(first: jax.Array, second: jax.Array, third: jax.Array, far: float) -> jax.Array:
    """Limit of a scalar sequence with s_{n+1} = a s_n + b, from three consecutive members."""
    before, after = second - first, third - second
    still = after == 0
    ratio = jnp.where(still, 0.0, after / jnp.where(before == 0, 1.0, before))
    grows = jnp.abs(ratio) > 1 - 1e-4
    limit = second + after / jnp.where(grows, 1.0, 1 - ratio)
    return jnp.where(still, third, jnp.where(grows, jnp.sign(after) * far, limit))


# ---------------------------------------------------------------------------------------------------------------
# The held step's matrices.

_SCALES = (2.0**96, 2.0**100)
"""Values at which slow leaves are held: eps is lost beside them, their powers are exact, float32 holds them."""


def state_space(transform: optax.GradientTransformation, roles: Roles, state: PyTree) -> StateSpace:
    """Matrices of the held step for a scalar weight, by differentiation; pure JAX, so it vmaps over hyperparameters.

    ``state`` is the state for a weight of shape () from `limit_state`.  Assumes linearity (checked by `held_filter`).
    """
    step, size = _one_step(transform, roles, state)

    def jacobian(scale: float) -> jax.Array:
        return jax.jacfwd(lambda x: step(x, scale))(jnp.zeros(size, jnp.result_type(float)))

    low, high = (jacobian(scale) for scale in _SCALES)
    coupled = _coupled(low, high, bool(roles.slow))
    matrix = high[:, :-1].at[:, 0].add(-coupled * high[:, -1])
    if not roles.slow:
        return StateSpace(matrix, high[:, -1], coupled, jnp.zeros((), high.dtype))
    # P ~ slow^power, seen in how the gradient reaches the weight; half-integers cover roots, maxima and ratios
    ratio = jnp.abs(_reach(low) / _reach(high))
    power = jnp.round(2 * jnp.log2(ratio) / np.log2(_SCALES[1] / _SCALES[0])) / 2
    # Put P = 1: the loop gain is what P divides, wherever the rule applies it, so undo it on the gradient.
    return StateSpace(matrix, high[:, -1] * _SCALES[1] ** power, coupled, power)


def _coupled(low: jax.Array, high: jax.Array, adaptive: bool) -> jax.Array:
    """Coupled decay: the weight enters as the gradient does, times a constant that the slow state does not change.

    Without fast state, coupled and decoupled decay only differ in whether P divides the decay.
    """

    def ratio(jacobian: jax.Array) -> tuple[jax.Array | float, jax.Array]:
        if jacobian.shape[0] == 1:
            column, drive = jacobian[:, 0] - 1, jacobian[:, -1]
        else:
            column, drive = jacobian[1:, 0], jacobian[1:, -1]
        driven = drive != 0
        ratios = jnp.where(driven, column / jnp.where(driven, drive, 1.0), jnp.nan)
        value = jnp.nanmean(ratios) if ratios.size else jnp.nan
        close = jnp.all(jnp.where(driven, jnp.abs(ratios - value) <= 1e-5 * jnp.abs(value), column == 0))
        return value, close

    if low.shape[0] == 1 and not adaptive:
        return jnp.zeros((), low.dtype)
    (first, one), (second, other) = ratio(low), ratio(high)
    same = one & other & (jnp.abs(first - second) <= 1e-5 * jnp.abs(second))  # eps beside 2^96 leaves no trace
    return jnp.where(same, second, 0.0).astype(low.dtype)


def _one_step(transform: optax.GradientTransformation, roles: Roles, state: PyTree) -> tuple[Callable, int]:
    """``step(x, scale)``: x = (w, fast..., g) -> (w, fast...), slow leaves held at ``scale``; and the length of x."""
    held = held_step(transform, roles)
    leaves, tree = jax.tree.flatten(state)
    ends = np.cumsum([1, *(leaves[i].size for i in roles.fast)])

    def step(x: jax.Array, scale: float) -> jax.Array:
        now = list(leaves)
        for i, part in zip(roles.fast, jnp.split(x[:-1], ends[:-1])[1:], strict=True):
            now[i] = part.reshape(leaves[i].shape).astype(leaves[i].dtype)
        slow = [jnp.full(leaves[i].shape, scale, leaves[i].dtype) for i in roles.slow]
        for i, value in zip(roles.slow, slow, strict=True):
            now[i] = value
        update, new = held(x[-1], jax.tree.unflatten(tree, now), x[0], slow)
        new_leaves = jax.tree.leaves(new)
        return jnp.concatenate([(x[0] + update)[None], *(new_leaves[i].ravel() for i in roles.fast)])

    return step, int(ends[-1]) + 1


def _reach(jacobian: jax.Array) -> jax.Array:
    """First nonzero impulse coefficient from gradient to weight, pure JAX."""
    carry, out = jacobian[:, -1], jacobian[0, -1]
    for _ in range(jacobian.shape[0]):
        carry = jacobian[:, :-1] @ carry.at[0].set(0.0)
        out = jnp.where(out == 0, carry[0], out)
    return out


# ---------------------------------------------------------------------------------------------------------------
# From matrices to windows (numpy: nonsymmetric eigenvalues exist on the host only).


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
    poly0, poly1, structural = _reduce(poly0, poly1)
    windows, angle = _windows(poly0, poly1, matrix, inject)
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

    fast, response, still = _reduce(np.poly(A) if n else np.ones(1), poly1_full)

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


def _reduce(poly0: np.ndarray, poly1: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[complex, ...]]:
    """Divide out the roots that do not move with lambda; return the ones on the unit circle."""
    roots0, roots1 = list(np.roots(poly0)), list(np.roots(poly1))
    # a root of multiplicity m is known to about eps^(1/m); six digits cover the double ones met in practice
    lead = poly1[np.flatnonzero(poly1)[0]] if np.any(poly1) else 0.0
    shared = []
    for root in list(roots1):
        near = [r for r in roots0 if abs(r - root) < 1e-6]
        if near:
            roots0.remove(min(near, key=lambda r: abs(r - root)))
            roots1.remove(root)
            shared.append(root)
    # dividing by the roots of poly1, which are the simple ones, keeps what is left of poly0 accurate
    new0 = np.atleast_1d(np.polydiv(poly0, np.real(np.poly(shared)))[0]) if shared else poly0
    new1 = lead * np.atleast_1d(np.real(np.poly(roots1)))
    if any(abs(r) > 1 + 1e-6 for r in shared):
        raise NoLinearEdge("the held step is unstable by itself: a mode that the gradient does not move grows")
    structural = tuple(complex(r) for r in shared if abs(abs(r) - 1) < 1e-6)
    return new0, np.concatenate([np.zeros(len(new0) - len(new1)), new1]), structural


def _windows(
    poly0: np.ndarray, poly1: np.ndarray, matrix: np.ndarray, inject: np.ndarray
) -> tuple[tuple[tuple[float, float], ...], float]:
    """All lambda > 0 windows with every root inside the unit circle, and the angle at the end of the first.

    On |z| = 1 a critical lambda makes poly0 + lambda poly1 vanish together with its reciprocal, so the critical z are
    unit roots of poly0 poly1* - poly0* poly1, a polynomial without lambda.
    """
    critical: dict[float, float] = {}
    # lambda = 0 is critical without decay (z = 1 is the weight itself): rounding must not make an end of it
    negligible = 1e-10 * np.abs(poly0).sum() / np.abs(poly1).sum()
    both = np.polysub(np.convolve(poly0, poly1[::-1]), np.convolve(poly0[::-1], poly1))
    for z in [1.0, -1.0, *np.roots(np.trim_zeros(both, "f"))]:
        if abs(abs(z) - 1) > 1e-4 or np.imag(z) < 0:  # 1e-4: unit roots of multiplicity 3 are only known to eps^(1/4)
            continue
        z = z / abs(z)
        denominator = np.polyval(poly1, z)
        if abs(denominator) > 1e-12 * np.abs(poly1).sum():
            lam = -np.polyval(poly0, z) / denominator
            if np.isfinite(lam) and lam.real > negligible and abs(lam.imag) < 1e-3 * abs(lam):
                exact, sharpness = _polish(matrix, inject, z) if abs(z - 1) > 1e-9 else (z, lam.real)
                if sharpness > negligible:
                    critical[sharpness] = float(np.angle(exact))
    ends = [0.0, *sorted(critical), np.inf]
    stable = [_radius(poly0 + _between(lo, hi) * poly1) < 1 for lo, hi in pairwise(ends)]
    windows: list[tuple[float, float]] = []
    for (lo, hi), good in zip(pairwise(ends), stable, strict=True):
        if good:
            joined = windows and windows[-1][1] == lo
            windows[-1:] = [(windows[-1][0], hi)] if joined else [*windows[-1:], (lo, hi)]
    return tuple(windows), critical.get(windows[0][1], np.nan) if windows else np.nan


def _polish(matrix: np.ndarray, inject: np.ndarray, z: complex) -> tuple[complex, float]:
    """The critical multiplier and lambda from the matrices themselves: lambda e_w^T (z - matrix)^-1 inject = 1.

    Polynomial coefficients lose digits where k* is large or the memory long; solving with the matrices does not.
    """

    def inverse(point: complex) -> tuple[complex, complex]:  # 1/G and its derivative
        resolvent = point * np.eye(len(inject)) - matrix
        once = np.linalg.solve(resolvent, inject)
        twice = np.linalg.solve(resolvent, once)
        with np.errstate(all="ignore"):  # an absurd learning rate overflows: NaN is no end of a window
            return 1 / once[0], twice[0] / once[0] ** 2

    if abs(np.imag(z)) < 1e-9:
        real = float(np.sign(np.real(z)))
        return complex(real), float(np.real(inverse(real)[0]))
    angle = float(np.angle(z))
    for _ in range(6):
        point = np.exp(1j * angle)
        gain, slope = inverse(point)
        turn = np.imag(1j * point * slope)
        if turn != 0 and abs(np.imag(gain) / turn) < 1e-2:
            angle -= float(np.imag(gain) / turn)
    point = np.exp(1j * angle)
    return complex(point), float(np.real(inverse(point)[0]))


def _between(lo: float, hi: float) -> float:
    if np.isinf(hi):
        return 2 * lo + 1.0
    return hi / 2 if lo == 0.0 else np.sqrt(lo * hi)


def _radius(polynomial: np.ndarray) -> float:
    return float(np.abs(np.roots(polynomial)).max(initial=0.0))


# ---------------------------------------------------------------------------------------------------------------
# Doors.


def roles(transform: optax.GradientTransformation, params: PyTree) -> Roles:
    """What each state leaf of ``transform`` is for these ``params`` (concrete values; see
    `toylab.rules.held.classify`).

    Raises `NoLinearEdge` if the transform cannot be run on such weights with a gradient alone.
    """
    try:
        return classify(transform, transform.init(params), params)
    except (TypeError, IndexError, KeyError, AttributeError) as error:
        told = " ".join(str(error).split())[:160]
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))
        raise NoLinearEdge(
            f"the transform cannot be run on weights of shape {shapes} with a gradient alone: {told}",
            "rules that need the loss value, a gradient function or a matrix have no elementwise edge",
        ) from error


def held_filter(transform: optax.GradientTransformation, count: int | None = None) -> Filter:
    """The filter and the edge of a built transform, its step count at infinity (or after ``count``: quasi-static).

    Raises `NoLinearEdge` with the reason if the held step is not linear in (weights, gradient, fast state), or mixes
    the coordinates of a vector or matrix of weights.
    """
    params = jnp.zeros(())
    parts = roles(transform, params)
    state = jax.jit(lambda: limit_state(transform, params, parts, count))()
    space = jax.jit(lambda s: state_space(transform, parts, s))(state)
    _require_linear(transform, parts, state, space)
    _require_separable(transform, parts, state)
    _require_elementwise(transform, space)
    return analyse(space)


def _require_linear(transform: optax.GradientTransformation, roles: Roles, state: PyTree, space: StateSpace) -> None:
    """Superposition: small oscillations g, fast -> 0 at finite weights must add up, with no term between w and g."""
    step, size = _one_step(transform, roles, state)
    run = jax.jit(step)
    rng = np.random.default_rng(1)
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    scale = _SCALES[1]
    undo = np.asarray(space.inject) / scale ** np.asarray(space.power)
    matrix = np.concatenate([np.asarray(space.matrix), undo[:, None]], axis=1)
    matrix[:, 0] += float(space.coupled) * undo
    if not np.all(np.isfinite(matrix)):
        raise NoLinearEdge("the held step has no derivative at rest (a norm, a root or a sign of the oscillation)")
    for small in (1.0, 2.0**-20):  # clipped and centred rules are linear for small oscillations only
        worst = 0.0
        for _ in range(3):
            x = rng.standard_normal(size) * np.where(np.arange(size) == 0, 1.0, small)
            expected = matrix @ x
            error = np.abs(np.asarray(run(x, scale)) - expected)
            # each row adds up size terms: rounding is relative to the largest of them
            worst = max(worst, float(np.max(error / (np.abs(matrix) @ np.abs(x) + 1e-300))))
        if worst < 64 * size * eps:
            break
    else:
        raise NoLinearEdge(
            f"the held step is not linear in (weights, gradient, fast state): superposition off by {worst:.1e}"
        )
    if not np.any(matrix[:, -1]):
        raise NoLinearEdge("the held step does not respond to a small gradient in proportion (a sign or a dead zone)")


def _require_separable(transform: optax.GradientTransformation, parts: Roles, state: PyTree) -> None:
    """P must divide the whole loop: without gradient the step does not feel the slow state, and Q keeps its shape."""
    if not parts.slow:
        return
    step, size = _one_step(transform, parts, state)

    @jax.jit
    def looked(scale: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        jacobian = jax.jacfwd(lambda x: step(x, scale))(jnp.zeros(size, jnp.result_type(float)))
        return jacobian, _coupled(jacobian, jacobian, True), _reach(jacobian)

    seen = []
    for scale in (1.0, 16.0):
        jacobian, coupled, reach = (np.asarray(part) for part in looked(scale))
        matrix, inject = jacobian[:, :-1].astype(float), jacobian[:, -1].astype(float)
        drive = np.zeros_like(matrix)
        matrix[:, 0] -= float(coupled) * inject
        drive[:, 0] = inject / abs(float(reach))  # a loop of order one, whatever the learning rate
        free = np.poly(matrix)
        loop = np.poly(matrix + drive) - free
        seen.append(np.concatenate([free, loop]))
    # eps in P changes its shape between the two scales by nothing, rounding by a few products of O(1) coefficients
    tolerance = 1e7 * float(jnp.finfo(jnp.result_type(float)).eps)
    if not np.allclose(*seen, rtol=0, atol=tolerance):
        raise NoLinearEdge("the filter itself depends on the slow state: no single preconditioner P divides the loop")


def _require_elementwise(transform: optax.GradientTransformation, space: StateSpace) -> None:
    """On vectors and matrices of weights the held step must act on each coordinate by itself, as on a scalar."""
    for shape in ((3,), (2, 3)):
        params = jnp.zeros(shape)
        parts = roles(transform, params)
        state = jax.jit(lambda params=params, parts=parts: limit_state(transform, params, parts))()
        leaves, tree = jax.tree.flatten(state)
        slow = [jnp.full(leaves[i].shape, _SCALES[1], leaves[i].dtype) for i in parts.slow]
        for i, value in zip(parts.slow, slow, strict=True):
            leaves[i] = value
        state = jax.tree.unflatten(tree, leaves)
        step = held_step(transform, parts)

        def respond(g: jax.Array, step=step, state=state, params=params, slow=slow) -> jax.Array:  # noqa: ANN001
            return step(g, state, params, slow)[0].ravel()

        jacobian = np.asarray(jax.jit(jax.jacfwd(respond))(params)).reshape(params.size, params.size)
        diagonal = np.diag(np.diag(jacobian))
        if not np.all(np.isfinite(jacobian)) or not np.allclose(jacobian, diagonal, rtol=0, atol=0):
            raise NoLinearEdge(
                f"the held step mixes the coordinates of weights of shape {shape}, or has no derivative at rest there",
                "only elementwise rules have one preconditioned sharpness P^-1 H with a diagonal P",
            )


def inverse_preconditioner(
    transform: optax.GradientTransformation, parts: Roles, impulse: Any, delay: int = 0
) -> Callable:
    """``P^-1`` on any problem, read off the rule's own step (DESIGN 4).

    Returns ``diagonal(grads, state, params, slow=None) -> pytree like params``: the derivative of the step with respect
    to the gradient, with the updated slow leaves held where this very step puts them, or at ``slow`` (see `held_step`),
    divided by minus the first nonzero impulse coefficient of eta Q (``Filter.impulse``, ``delay`` steps late).
    ``parts`` are the `roles` for these params.  Not finite where a coordinate is dead.  Can be jitted and vmapped, also
    over ``impulse`` and over the hyperparameters inside ``transform``.  Assumes an elementwise rule (checked by
    `held_filter`); costs one step of the rule and its derivative.
    """
    step = held_step(transform, parts)

    def diagonal(grads: PyTree, state: PyTree, params: PyTree, slow: list | None = None) -> PyTree:
        def respond(g: PyTree) -> PyTree:
            update, new = step(g, state, params, slow)
            for _ in range(delay):
                leaves = jax.tree.leaves(new)
                here = [jax.lax.stop_gradient(leaves[i]) for i in parts.slow] if slow is None else slow
                update, new = step(jax.tree.map(jnp.zeros_like, g), new, params, here)
            return update

        slope = jax.jvp(respond, (grads,), (jax.tree.map(jnp.ones_like, grads),))[1]
        return jax.tree.map(lambda s: -s / impulse, slope)

    return diagonal
