"""Gradient flow: fourth order, the exponential on a quadratic, conserved quantities, two independent integrators."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

from toylab import problems
from toylab.models.gradient_flow import gradient_flow_steps
from toylab.models.kernel import rollout

SPECTRUM = jnp.array([4.0, 1.0, 0.3, -0.2])
TIME, STEPS = 2.0, 4


def last(problem, start, time_step=TIME / STEPS, steps=STEPS, **choices):
    """The state after `steps` steps and all infos, in one compiled program."""
    kernel = gradient_flow_steps(problem, time_step, **choices)
    return jax.jit(lambda params: rollout(kernel, kernel.init(params), steps))(start)


@pytest.fixture(scope="module")
def chain():
    """A scalar chain with the infos of runs at four fractions, by vmap over what may be traced."""
    problem = problems.scalar_chain(start=(1.5, 0.8, -0.3))

    def ended(fraction):
        kernel = gradient_flow_steps(problem, TIME / STEPS, fraction=fraction)
        return rollout(kernel, kernel.init(problem.params), STEPS)

    fractions = jnp.array([1.0, 0.5, 0.25, 0.125])
    return problem, fractions, *jax.jit(jax.vmap(ended))(fractions)


def test_its_order_is_four(chain):
    problem, _, ends, infos = chain
    slope = jax.jit(lambda w: -problem.gradient(w))
    truth = solve_ivp(lambda _, w: slope(w), (0, TIME), problem.params, method="DOP853", rtol=1e-13, atol=1e-15).y[
        :, -1
    ]
    errors = np.abs(np.asarray(ends.params) - truth).max(axis=1)
    lengths = TIME / np.asarray(infos.substeps).sum(axis=1)
    # the four lengths are not exactly halved, and the sharpness changes along the way: 4 +- 0.3
    assert np.polyfit(np.log(lengths), np.log(errors), 1)[0] == pytest.approx(4, abs=0.3)
    assert errors[-1] < 1e-6


def test_differences_of_squares_are_conserved_to_the_order_of_the_method(chain):
    problem, fractions, ends, _ = chain

    def invariant(w):
        return w[..., 1:] ** 2 - w[..., :1] ** 2

    drift = np.abs(invariant(ends.params) - invariant(problem.params)[None]).max(axis=1)
    assert drift[-1] < 1e-5  # some forty substeps with a local error of (1/8)^5/120
    assert np.polyfit(np.log(fractions), np.log(drift), 1)[0] > 3.5  # at least the order


@pytest.mark.slow
def test_time_and_sharpness_are_those_of_the_point(chain):
    problem, _, ends, infos = chain
    np.testing.assert_allclose(infos.time[0], np.arange(STEPS) * TIME / STEPS, rtol=1e-12)
    np.testing.assert_allclose(ends.time, TIME, rtol=1e-12)
    for params, value, loss in zip(infos.params[0], infos.sharpness[0], infos.loss[0], strict=True):
        hessian = jax.hessian(problem.value)(params)
        # three dimensions: the Krylov space is everything, so the value is exact
        assert value == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-10)
        assert loss == pytest.approx(float(problem.value(params)), rel=1e-12)


def test_on_a_quadratic_it_is_the_exponential(key):
    problem = problems.quadratic(SPECTRUM, key=key)
    end, infos = last(problem, problem.params, fraction=0.02)
    values, basis = np.linalg.eigh(np.asarray(jax.hessian(problem.value)(problem.params)))
    truth = basis @ (np.exp(-values * TIME) * (basis.T @ np.asarray(problem.params)))
    # 400 substeps of local error (h lambda)^5/120 = 3e-11 in the stiffest direction, which has decayed by then
    np.testing.assert_allclose(end.params, truth, atol=1e-8)
    assert infos.substeps.sum() == 400  # 2 x 4/0.02


@pytest.mark.slow
def test_a_stiff_direction_is_stable_at_the_default_fraction():
    end, infos = last(problems.quadratic([1000.0, 1.0]), jnp.ones(2), time_step=1.0, steps=1)
    assert infos.substeps == 1000
    assert abs(end.params[0]) < 1e-12  # 0.375^1000
    assert end.params[1] == pytest.approx(np.exp(-1.0), rel=1e-12)  # h = 1e-3: (1e-3)^5/120 a substep


@pytest.mark.slow
def test_substeps_are_no_longer_than_allowed_and_a_flat_loss_needs_one():
    flat = problems.quadratic([-1.0, -2.0])
    assert last(flat, flat.params)[1].substeps.tolist() == [1] * STEPS
    assert last(flat, flat.params, longest=0.1)[1].substeps.tolist() == [5] * STEPS


def test_numbers_that_are_not_finite_end_the_step():
    end, infos = last(problems.quadratic([1.0]), jnp.array([jnp.nan]))
    assert np.isnan(end.params).all()
    assert infos.substeps.max() <= 1


@pytest.mark.slow
def test_on_a_network_it_is_what_two_other_integrators_find():
    problem = problems.digits_mlp(hidden=(3,), examples=12)
    flat, unravel = ravel_pytree(problem.params)
    slope = jax.jit(lambda w: -ravel_pytree(problem.gradient(unravel(w)))[0])
    end, infos = last(problem, problem.params, fraction=0.25)
    mine = ravel_pytree(end.params)[0]
    # at fraction 1/4 the stiffest direction errs by (1/4)^5/120 = 1e-5 of what is left of it, once and again
    oracle = solve_ivp(lambda _, w: slope(w), (0, TIME), flat, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    travelled = np.linalg.norm(oracle - flat)
    assert np.linalg.norm(mine - oracle) < 1e-5 * travelled
    assert infos.loss[0] > problem.value(end.params)
    solved = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, w, args: slope(w)), diffrax.Dopri8(), 0.0, TIME, None, flat,
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12), max_steps=10_000,
    )  # fmt: skip
    assert np.linalg.norm(mine - solved.ys[0]) < 1e-5 * travelled
    assert np.linalg.norm(oracle - solved.ys[0]) < 1e-8 * travelled  # both have 1e-10 or better a step
