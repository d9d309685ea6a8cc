"""Experiments on the held step: the rule's own code is run on quadratics, and what it does is measured.

Nothing here knows a threshold, a filter or a characteristic polynomial.  The held step is linear, so running it on a
basis of (w, fast state) gives everything that any run can do; T steps are taken by squaring T times log 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from toylab.filters import limit_state, roles
from toylab.optimizers import NAMED
from toylab.rules.held import held_step
from toylab.rules.parities import Roles

Array = Any

AMPLITUDE = 2.0**-30
"""Size of the oscillations that are run: rules that are linear only at rest (clipped, centred) are at rest to 2^-60."""

_DOUBLINGS = 44
"""Exponents are averages over 2^44 steps: transients of log-size 10 change them by 1e-12."""

GROWS = {np.dtype(np.float64): 1e-11, np.dtype(np.float32): 1e-6}
"""An exponent counts as growth above this; below it are rounding and modes that neither grow nor decay."""


@cache
def roles_of(rule: str) -> Roles:
    """What each leaf of a built-in rule's state is, for a single weight; found by running the rule, so not under jit.

    The parities do not depend on the hyperparameters, so any learning rate serves.
    """
    return roles(NAMED[rule](learning_rate=0.1), jnp.zeros(()))


def slow_shapes(rule: str, dimension: int) -> list[tuple[int, ...]]:
    """Shapes of the slow leaves for a weight vector of that dimension."""
    params = jnp.zeros(dimension)
    leaves = jax.tree.leaves(NAMED[rule](learning_rate=0.1).init(params))
    return [leaves[i].shape for i in roles_of(rule).slow]


def fast_size(rule: str, dimension: int) -> int:
    """Numbers in the fast state for a weight vector of that dimension."""
    leaves = jax.tree.leaves(NAMED[rule](learning_rate=0.1).init(jnp.zeros(dimension)))
    return sum(leaves[i].size for i in roles_of(rule).fast)


def held_map(
    rule: str, hyperparameters: Mapping[str, Array], slow: list[Array], gradient: Callable, dimension: int
) -> tuple[Callable, int]:
    """One held step as a map on the flat vector (w, fast state), and its size; ``gradient`` maps w (d,) to (d,).

    ``slow``: the values at which the slow leaves are held; the step count is at its limit.  Pure JAX.
    """
    parts = roles_of(rule)
    params = jnp.zeros(dimension)
    transform = NAMED[rule](**hyperparameters)
    leaves, tree = jax.tree.flatten(limit_state(transform, params, parts))
    step = held_step(transform, parts)
    sizes = [params.size, *(leaves[i].size for i in parts.fast)]

    def run(x: Array) -> Array:
        weight, *fast = jnp.split(x, np.cumsum(sizes)[:-1])
        state_leaves = list(leaves)
        for i, value in zip(parts.fast, fast, strict=True):
            state_leaves[i] = value.reshape(leaves[i].shape)
        for i, value in zip(parts.slow, slow, strict=True):
            state_leaves[i] = value
        update, new = step(gradient(weight), jax.tree.unflatten(tree, state_leaves), weight, list(slow))
        after = jax.tree.leaves(new)
        return jnp.concatenate([weight + update, *(after[i].ravel() for i in parts.fast)])

    return run, sum(sizes)


def step_matrix(rule: str, hyperparameters: Mapping[str, Array], slow: list[Array], hessian: Array) -> Array:
    """One held step on w^T H w / 2 as a matrix on (w, fast state), by running it on a basis; ``hessian`` (d, d)."""
    run, size = held_map(rule, hyperparameters, slow, lambda weight: hessian @ weight, hessian.shape[0])
    return jax.vmap(run, in_axes=1, out_axes=1)(AMPLITUDE * jnp.eye(size)) / AMPLITUDE


_BLOCK = 256
"""Rows that are computed at once: a rule's step is compiled once, however many members and scales are asked for."""


def in_blocks(run: Callable, *rows: Any, block: int = _BLOCK) -> Any:
    """``run(*rows)`` in blocks of one length, the last one filled up; every leaf of ``rows`` and of what is returned
    (NumPy arrays) has the leading axis (rows,), along which ``run`` must not mix.
    """
    count = len(jax.tree.leaves(rows)[0])
    places = np.pad(np.arange(count), (0, -count % block)).reshape(-1, block)
    blocks = [run(*jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[place]), rows)) for place in places]  # noqa: B023
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *blocks)


def _matrices(rule: str, hyperparameters: Mapping[str, Array], slow: list[Array], hessians: Array) -> np.ndarray:
    """(members, scales): `step_matrix` for every member at every Hessian of it."""
    roles_of(rule)  # found by running the rule, which cannot be done inside the compiled program
    members, scales, *shape = np.shape(hessians)
    repeated = partial(np.repeat, repeats=scales, axis=0)
    named, held = jax.tree.map(repeated, (dict(hyperparameters), list(slow)))
    matrices = in_blocks(partial(_compiled, rule), named, held, np.reshape(hessians, (-1, *shape)))
    return matrices.reshape(members, scales, *matrices.shape[1:])


@partial(jax.jit, static_argnums=0)
def _compiled(rule: str, hyperparameters: Mapping[str, Array], slow: list[Array], hessians: Array) -> Array:
    return jax.vmap(partial(step_matrix, rule))(hyperparameters, slow, hessians)


@jax.jit
def _exponent(matrix: Array) -> Array:
    """Largest Lyapunov exponent: log |M^N| / N, N = 2^_DOUBLINGS, renormalised at every squaring."""

    def square(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        m, log = carry
        m = m @ m
        size = jnp.max(jnp.abs(m), axis=(-2, -1), keepdims=True)
        safe = jnp.where(size > 0, size, 1.0)
        return (m / safe, 2 * log + jnp.log(safe)), None

    start = (matrix, jnp.zeros((*matrix.shape[:-2], 1, 1), matrix.dtype))
    (_, log), _ = jax.lax.scan(square, start, None, length=_DOUBLINGS)
    return log[..., 0, 0] / 2.0**_DOUBLINGS


def exponents(rule: str, hyperparameters: Mapping[str, Array], slow: list[Array], hessians: Array) -> np.ndarray:
    """Lyapunov exponents (members, scales) of the held step; hessians (members, scales, d, d)."""
    matrices = _matrices(rule, hyperparameters, slow, hessians)
    return in_blocks(_exponent, matrices.reshape(-1, *matrices.shape[2:])).reshape(matrices.shape[:2])


def critical_scale(rule: str, hyperparameters: Mapping[str, Array], slow: list[Array], hessian: Array) -> np.ndarray:
    """The smallest c at which the held step on c H starts to grow, for each member; hessian (members, d, d).

    Scanned upwards in steps of 3% over twelve decades, then cut into 65 parts again and again, to the last digit.  NaN
    where nothing grows.
    """
    eta = np.asarray(hyperparameters["learning_rate"])

    def grows(scales: np.ndarray) -> np.ndarray:
        rate = exponents(rule, hyperparameters, slow, scales[:, :, None, None] * hessian[:, None])
        return rate > GROWS[rate.dtype]

    scan = np.geomspace(1e-6, 1e6, 935)[None, :] / eta[:, None]
    growing = grows(scan)
    first = np.argmax(growing, axis=1)
    member = np.arange(len(eta))
    low, high = scan[member, np.maximum(first - 1, 0)], scan[member, first]
    for _ in range(8):
        ends = np.linspace(low, high, 66, axis=1)
        inside = np.pad(grows(ends[:, 1:-1]), ((0, 0), (0, 1)), constant_values=True)
        first = np.argmax(inside, axis=1)
        low, high = ends[member, first], ends[member, first + 1]
    return np.where(growing.any(axis=1), (low + high) / 2, np.nan)


def cosine_of_oscillation(rule: str, hyperparameters: Mapping, slow: list, hessian: Array) -> np.ndarray:
    """cos(angle) of the oscillation that is left after 2^20 held steps; hessian (members, d, d).

    Differences d_t of the weight (a mode that stands still drops out) obey d_{t+1} + d_{t-1} = 2 cos(angle) d_t.
    """
    matrix = _matrices(rule, hyperparameters, slow, hessian[:, None])[:, 0]
    out = []
    for m in matrix:
        late = m
        for _ in range(20):
            late = late @ late
            late = late / np.abs(late).max()
        x = late @ np.linspace(1.0, 2.0, len(m))
        path = [x[0]]
        for _ in range(64):
            x = m @ x
            path.append(x[0])
        d = np.diff(np.array(path))
        out.append(np.sum((d[2:] + d[:-2]) * d[1:-1]) / (2 * np.sum(d[1:-1] ** 2)))
    return np.array(out)


def naive_bracket(
    rule: str, hyperparameters: Mapping, slow: list, hessian: Array, steps: int, spacing: float
) -> np.ndarray:
    """(members, 2): the largest scale c at which a plain run of the held step on c H stays, the smallest at which
    it diverges, on a grid of relative ``spacing``; divergence = the loss of the last quarter exceeds the third's.
    """
    eta = np.asarray(hyperparameters["learning_rate"])
    coarse = np.geomspace(1e-4, 1e5, 220)[None, :] / eta[:, None]
    diverges = _diverges(rule, hyperparameters, slow, coarse, hessian, steps)
    first = np.argmax(diverges, axis=1)
    member = np.arange(len(eta))
    low, high = coarse[member, np.maximum(first - 1, 0)], coarse[member, first]
    n = int(np.ceil(np.log(coarse[0, 1] / coarse[0, 0]) / spacing)) + 1
    fine = low[:, None] * (high / low)[:, None] ** np.linspace(0, 1, n)[None, :]
    diverges = _diverges(rule, hyperparameters, slow, fine, hessian, steps)
    first = np.argmax(diverges, axis=1)
    divergent = np.any(diverges, axis=1)
    bracket = np.stack([fine[member, np.maximum(first - 1, 0)], fine[member, first]], axis=1)
    return np.where(divergent[:, None], bracket, np.nan)


def _diverges(rule: str, hyperparameters: Mapping, slow: list, scales: Array, hessian: Array, steps: int) -> np.ndarray:
    matrices = _matrices(rule, hyperparameters, slow, scales[..., None, None] * hessian[:, None])
    return np.asarray(_run(jnp.asarray(matrices), jnp.asarray(hessian[:, None]), steps))


@partial(jax.jit, static_argnums=2)
def _run(matrices: Array, hessian: Array, steps: int) -> Array:
    """Step by step, watching the loss; what would overflow is divided out, with its logarithm remembered."""
    x = jnp.broadcast_to(jnp.linspace(1.0, 2.0, matrices.shape[-1]), matrices.shape[:-1])

    def one(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        x, log = carry
        x = jnp.einsum("...ij,...j->...i", matrices, x)
        size = jnp.max(jnp.abs(x), axis=-1)
        rescale = jnp.where((size > 1e100) | ((size < 1e-100) & (size > 0)), size, 1.0)
        weight = x[..., : hessian.shape[-1]]
        loss = jnp.sqrt(jnp.einsum("...i,...ij,...j->...", weight, hessian, weight))
        # a loss that has decayed to the rounding of a state that stands still does not diverge
        loss = jnp.maximum(loss, 1e-13 * size)
        return (x / rescale[..., None], log + jnp.log(rescale)), log + jnp.log(jnp.maximum(loss, 1e-300))

    def quarter(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        carry, sizes = jax.lax.scan(one, carry, None, length=steps // 4)
        return carry, jnp.max(sizes, axis=0)

    _, sizes = jax.lax.scan(quarter, (x, jnp.zeros(matrices.shape[:-2])), None, length=4)
    return sizes[3] > sizes[2] + 1e-3  # rounding of a mode that stands still is far below, divergence far above


def rules() -> tuple[str, ...]:
    """Every built-in rule."""
    return tuple(NAMED)
