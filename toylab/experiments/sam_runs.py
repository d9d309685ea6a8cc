"""Experiments on SAM: runs of optax's own transform, where they lose stability, and the cycle they are drawn into."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from toylab.optimizers import NAMED
from toylab.problems import Problem

AMPLITUDE = 2.0**-30
"""Size of x, far below the gradient across it."""


def _descent(rule: str, named: dict, rho: Any, normalised: bool) -> optax.GradientTransformationExtraArgs:
    ascent = optax.sgd(rho)
    if normalised:
        ascent = optax.chain(optax.contrib.normalize(), ascent)
    return optax.contrib.sam(NAMED[rule](**named), ascent, opaque_mode=True)


def _loss(params: Any, data: Any) -> Any:
    """A curved direction and one in which the loss falls steadily."""
    curvature, slope = data
    return jnp.mean(curvature * params[0] ** 2 / 2 + slope * params[1])


@partial(jax.jit, static_argnums=(0, 2))
def _radii(rule: str, inputs: dict, normalised: bool, curvatures: Any) -> Any:
    """`_radius` of every member."""
    return jax.vmap(lambda one, curvature: _radius(rule, one, normalised, curvature))(inputs, curvatures)


def _radius(rule: str, inputs: dict, normalised: bool, curvature: Any) -> Any:
    """Growth a step of a small x: trace and determinant of the real step on (x, momentum along x)."""
    problem = Problem(_loss, jnp.zeros(2), (curvature[None], inputs["norm"][None]))
    transform = _descent(rule, inputs["named"], inputs["rho"], normalised)
    state = transform.init(problem.params)
    leaves, tree = jax.tree.flatten(state)
    fast = [i for i, leaf in enumerate(leaves) if leaf.shape == (2,)]

    def gradient(params: Any, _: int = 0) -> Any:
        return problem.gradient(params)

    def run(small: Any) -> Any:
        leaves_now = [leaf.at[0].set(small[1 + fast.index(i)]) if i in fast else leaf for i, leaf in enumerate(leaves)]
        params = problem.params.at[0].set(small[0])
        old = jax.tree.unflatten(tree, leaves_now)
        update, new = transform.update(gradient(params), old, params, grad_fn=gradient)
        after = jax.tree.leaves(new)
        return jnp.stack([(params + update)[0], *(after[i][0] for i in fast)])

    size = 1 + len(fast)
    matrix = jax.vmap(run, in_axes=1, out_axes=1)(AMPLITUDE * jnp.eye(size)) / AMPLITUDE
    if size == 1:
        return jnp.abs(matrix[0, 0])
    half, product = jnp.trace(matrix) / 2, jnp.linalg.det(matrix)
    root = jnp.sqrt((half**2 - product).astype(complex))
    return jnp.maximum(jnp.abs(half + root), jnp.abs(half - root))


def sam_edges(sample: Any) -> dict[str, np.ndarray]:
    """Curvatures (members, 2) at which normalised and unnormalised SAM start to grow, by bisection."""
    out = {}
    for rule, members in sample.items():
        inputs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        columns = []
        for normalised in (True, False):
            low, high = np.zeros(len(members)), np.full(len(members), 1e6)
            for _ in range(80):
                middle = (low + high) / 2
                grows = np.asarray(_radii(rule, inputs, normalised, jnp.asarray(middle))) > 1
                low, high = np.where(grows, low, middle), np.where(grows, middle, high)
            columns.append((low + high) / 2)
        out[rule] = np.stack(columns, axis=1)
    return out


# ---------------------------------------------------------------------------------------------------------------
# Alone


def sam_cycles(sample: dict[str, np.ndarray]) -> np.ndarray:
    """(members, 2): |x| after 20,000 steps where the whole gradient lies along u, and how often the sign changed."""

    @jax.jit
    @jax.vmap
    def run(inputs: dict) -> Any:
        problem = Problem(_loss, jnp.array([0.1, 0.0]), (inputs["curvature"][None], jnp.zeros(1)))
        transform = _descent("gd", {"learning_rate": inputs["eta"]}, inputs["rho"], True)

        def gradient(params: Any, _: int = 0) -> Any:
            return problem.gradient(params)

        def step(params: Any, _: None) -> tuple[Any, Any]:
            state = transform.init(params)  # gradient descent has none
            update: Any = transform.update(gradient(params), state, params, grad_fn=gradient)[0]
            return params + update, params[0] * (params + update)[0] < 0

        last, flips = jax.lax.scan(step, problem.params, length=20_000)
        return jnp.stack([jnp.abs(last[0]), jnp.mean(flips[-1000:])])

    return np.asarray(run({name: jnp.asarray(values) for name, values in sample.items()}))
