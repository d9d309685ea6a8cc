"""One look at a point: P as the rule's own step has it, decay as curvature, ratios over the rule's threshold."""

import jax.numpy as jnp
import numpy as np
import optax

from toylab import problems
from toylab.curvature import begin_track
from toylab.models.look import look_at, reciprocal
from toylab.models.mean_step import MeanStep
from toylab.rules.edge import edge_data

DIAGONAL = jnp.array([3.0, 1.0, 0.5])


def test_momentum_with_coupled_decay_sees_the_hessian_and_the_decay():
    problem = problems.quadratic(DIAGONAL)
    rule = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.2, 0.5))
    mean_step = MeanStep(rule, *edge_data(rule, problem.params), problem.params)
    here, _ = look_at(problem, mean_step, problem.params, rule.init(problem.params), begin_track(problem.params, 2))
    np.testing.assert_allclose(here.loss, problem.value(problem.params), rtol=1e-15)
    np.testing.assert_allclose(here.gradient, DIAGONAL * problem.params, rtol=1e-15)
    np.testing.assert_allclose(here.preconditioner, 1.0, rtol=1e-12)  # read off a step of the rule, to rounding
    np.testing.assert_allclose(here.edge_ratios, (np.array([3.0, 1.0]) + 0.1) * 0.2 / 3, rtol=1e-12)  # 2 (1 + b)


def test_a_given_slow_state_is_the_one_at_which_p_is_read():
    problem = problems.quadratic(DIAGONAL)
    rule = optax.rmsprop(0.2, 0.9, eps=0.0)
    mean_step = MeanStep(rule, *edge_data(rule, problem.params), problem.params)
    state, track = rule.init(problem.params), begin_track(problem.params, 1)
    moments = jnp.array([4.0, 1.0, 9.0])
    here, _ = look_at(problem, mean_step, problem.params, state, track, [moments])
    np.testing.assert_allclose(here.preconditioner, jnp.sqrt(moments), rtol=1e-12)
    own, _ = look_at(problem, mean_step, problem.params, state, track)
    np.testing.assert_allclose(own.slow[0], 0.1 * here.gradient**2, rtol=1e-12)


def test_dead_coordinates_have_no_reciprocal():
    np.testing.assert_array_equal(reciprocal(jnp.array([2.0, 0.0])), [0.5, 0.0])
