"""What a rule must satisfy to have one filter and one diagonal preconditioner: linear, separable, elementwise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from toylab.rules.errors import NoLinearEdge
from toylab.rules.held import held_step
from toylab.rules.limits import limit_state
from toylab.rules.matrices import SCALES, StateSpace, coupled_decay, eigendirection_step, first_impulse
from toylab.rules.parities import Roles, confirmed_roles

PyTree = Any


def require_linear(transform: optax.GradientTransformation, roles: Roles, state: PyTree, space: StateSpace) -> None:
    """Superposition: small oscillations g, fast -> 0 at finite weights must add up, with no term between w and g."""
    step, size = eigendirection_step(transform, roles, state)
    run = jax.jit(step)
    rng = np.random.default_rng(1)
    eps = float(jnp.finfo(jnp.result_type(float)).eps)
    scale = SCALES[1]
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


def require_separable(transform: optax.GradientTransformation, parts: Roles, state: PyTree) -> None:
    """P must divide the whole loop: without gradient the step does not depend on the slow state, nor does Q's shape."""
    if not parts.slow:
        return
    step, size = eigendirection_step(transform, parts, state)

    @jax.jit
    def at_scale(scale: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        jacobian = jax.jacfwd(lambda x: step(x, scale))(jnp.zeros(size, jnp.result_type(float)))
        return jacobian, coupled_decay(jacobian, jacobian, True), first_impulse(jacobian)

    polynomials = []
    for scale in (1.0, 16.0):
        jacobian, coupled, reach = (np.asarray(part) for part in at_scale(scale))
        matrix, inject = jacobian[:, :-1].astype(float), jacobian[:, -1].astype(float)
        drive = np.zeros_like(matrix)
        matrix[:, 0] -= float(coupled) * inject
        drive[:, 0] = inject / abs(float(reach))  # a loop of order one, whatever the learning rate
        free = np.poly(matrix)
        loop = np.poly(matrix + drive) - free
        polynomials.append(np.concatenate([free, loop]))
    # eps in P changes its shape between the two scales by nothing, rounding by a few products of O(1) coefficients
    tolerance = 1e7 * float(jnp.finfo(jnp.result_type(float)).eps)
    if not np.allclose(*polynomials, rtol=0, atol=tolerance):
        raise NoLinearEdge("the filter itself depends on the slow state: no single preconditioner P divides the loop")


def require_elementwise(transform: optax.GradientTransformation, single: Roles) -> None:
    """On vectors and matrices of weights the held step must act on each coordinate by itself, as on a `single` weight,
    whose roles these are."""
    for shape in ((3,), (2, 3)):
        params = jnp.zeros(shape)
        parts = confirmed_roles(single, transform, params)
        state = jax.jit(lambda params=params, parts=parts: limit_state(transform, params, parts))()
        leaves, tree = jax.tree.flatten(state)
        slow = [jnp.full(leaves[i].shape, SCALES[1], leaves[i].dtype) for i in parts.slow]
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
