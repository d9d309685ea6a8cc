"""Gradient flow: gradient descent with the learning rate sent to zero."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from toylab.curvature import Track, begin_track, follow
from toylab.models.kernel import Kernel
from toylab.numerics.fixed_steps import classical_runge_kutta
from toylab.numerics.full_precision import fully_precise
from toylab.problems.problem import Problem

PyTree = Any

MOST = 100_000
"""The most substeps of one step: a bound that a sharpness that runs away cannot exceed."""


class Flow(NamedTuple):
    """A point of the flow, its flow time, the top eigenvalue of the Hessian there and the memory that it is followed
    with, and the number of substeps taken so far.
    """

    params: PyTree
    time: Array
    sharpness: Array
    track: Track
    count: Array


class Flowed(NamedTuple):
    """The point that a step leaves: its flow `time`, `params`, `loss` and `sharpness` there, and the number of
    `substeps` that lead from there to the next one.
    """

    time: Array
    params: PyTree
    loss: Array
    sharpness: Array
    substeps: Array


def gradient_flow_steps(
    problem: Problem, time_step: ArrayLike, *, fraction: ArrayLike = 1.0, longest: ArrayLike = jnp.inf
) -> Kernel:
    """Kernel of w' = -grad L(w); one step advances the *flow time* by `time_step`.

    With `time_step` = eta, a step of the kernel stands beside one of gradient descent, w+ = w - eta grad L; for a rule
    whose averaged motion has the speed eta Q(1), beside one of that rule.

    Classical Runge-Kutta of order 4 (Hairer, Norsett & Wanner, Solving ODEs I, II.1), in substeps no longer than
    `fraction`/S and `longest`, S the sharpness at the beginning of the substep; the rest of a step is divided evenly.
    The stiffest direction is stable up to fraction = 2.78 and decays with a relative error of 2% a substep at 1; others
    have local errors (h lambda)^5/120.  Directions of negative curvature are not looked for: `longest` bounds h there.
    S is followed from substep to substep to 1e-3 of its value, see `toylab.curvature.follow`: an eigenvalue that has
    overtaken is seen within some tens of substeps, in which it may exceed S and still be stable up to 2.78/fraction.

    `init(params)`; `step` gives the `Flowed` of the point that it leaves.  A step that would need more than 100,000
    substeps ends early, which its `time` shows; numbers that are not finite stay so and end the step.
    Cost: four gradients and one to two Hessian products a substep.  `time_step` may be traced, and all maps.
    """

    def tracked(flow: Flow) -> Flow:
        pairs, track = follow(problem.hessian(flow.params), flow.track, flow.params)
        return flow._replace(sharpness=pairs.value[0], track=track)

    def init(params: PyTree) -> Flow:
        zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
        return tracked(Flow(params, zero, zero, begin_track(params, 1), jnp.zeros((), jnp.int32)))

    def velocity(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.negative, problem.gradient(params))

    @fully_precise
    def step(start: Flow) -> tuple[Flow, Flowed]:
        dtype = start.time.dtype
        end = start.time + jnp.asarray(time_step, dtype)

        def unfinished(flow: Flow) -> Array:
            return (flow.time < end) & jnp.isfinite(flow.sharpness) & (flow.count - start.count < MOST)

        def substep(flow: Flow) -> Flow:
            left = end - flow.time
            rate = jnp.maximum(flow.sharpness / fraction, 1 / jnp.asarray(longest, dtype))  # substeps per unit of time
            pieces = jnp.maximum(jnp.ceil(left * rate * (1 - 1e-6)), 1)  # rounding must not add one
            h = left / pieces
            time = jnp.where(pieces > 1, flow.time + h, end)
            params = classical_runge_kutta(velocity, flow.params, h)
            return tracked(flow._replace(params=params, time=time, count=flow.count + 1))

        reached = lax.while_loop(unfinished, substep, start)
        substeps = reached.count - start.count
        return reached, Flowed(start.time, start.params, problem.value(start.params), start.sharpness, substeps)

    return Kernel(init, step)
