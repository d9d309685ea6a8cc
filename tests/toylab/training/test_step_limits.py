"""The largest stable learning rate: exact on quadratics, bracketed by runs on a network, refused with reasons."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import theory
import toylab
from toylab import filters, problems
from toylab.curvature import dense_hessian
from toylab.optimizers import NAMED
from toylab.rules.errors import NoLinearEdge
from toylab.training.step_limits import max_learning_rate

TOP = 3.0
QUADRATIC = problems.quadratic([TOP, 1.0, 0.2, -1.0])


def decayed(learning_rate, momentum=0.5, decay=0.3):
    """Momentum with coupled decay, which adds to the curvature."""
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(learning_rate, momentum=momentum))


RULES = {
    "gd": (NAMED["gd"], {}),
    "delayed": (NAMED["delayed_gradient"], {"delay": 2}),
    "coupled decay": (decayed, {}),
    "adamw": (NAMED["adamw"], {"weight_decay": 0.4, "b1": 0.8}),
}


@pytest.mark.parametrize("name", RULES)
def test_on_a_quadratic_the_threshold_there_is_the_sharpness(name):
    rule, settings = RULES[name]
    found = max_learning_rate(QUADRATIC, rule, QUADRATIC.params, **settings)
    # a fresh Adam's first step: nu+ is g^2 and both bias corrections stay, P = |g| (1 - b1); elsewhere P = 1
    gradient = np.abs(np.asarray(QUADRATIC.gradient(QUADRATIC.params)))
    scale = 1 / ((gradient + 1e-8) * (1 - settings["b1"])) if name == "adamw" else 1.0
    truth = np.max(np.diag(dense_hessian(QUADRATIC, QUADRATIC.params)) * scale) + (0.3 if rule is decayed else 0.0)
    assert found.preconditioned_sharpness == pytest.approx(truth, rel=1e-12)  # four dimensions: a full basis
    if rule in NAMED.values():  # the threshold on another road: theory's symbols, from the same code
        edge = theory.cached_edge(rule) if "delay" not in settings else theory.edge(rule, delay=2)
        at = {key: float(value) for key, value in edge.reference.items() if key in edge.symbols}
        at |= {key: value for key, value in settings.items() if key in edge.symbols}
        derived = edge.at(**at | {"learning_rate": found.learning_rate}).threshold
        assert derived == pytest.approx(truth, rel=1e-9)  # roots of a small polynomial
    else:  # heavy ball on H + omega I: 2 (1 + beta)/eta
        assert found.learning_rate == pytest.approx(2 * 1.5 / truth, rel=1e-10)
    assert found.lower <= found.learning_rate <= found.upper
    assert found.upper / found.lower - 1 < 1e-10  # residual and rounding of exact products


@pytest.fixture(scope="module")
def trained():
    """A network some steps on its way, with Adam's own state there."""
    problem = problems.digits_mlp(hidden=(3,), examples=20)
    run = toylab.train(problem, optax.adam(1e-2, b2=0.95), 40, toylab.observers())
    return problem, run


@pytest.mark.slow
def test_the_error_bar_holds_the_dense_truth(trained):
    problem, run = trained
    found = max_learning_rate(problem, optax.adam, run.params, run.state, b2=0.95)
    transform = optax.adam(1e-3, b2=0.95)
    structure, edge = toylab.rules.edge.edge_data(transform, run.params)
    inverse = filters.inverse_preconditioner(transform, structure.roles, edge.impulse)
    diagonal = inverse(problem.gradient(run.params), run.state, run.params)
    scale = np.sqrt(np.asarray(jax.flatten_util.ravel_pytree(diagonal)[0]))
    live = np.isfinite(scale)
    scale = np.where(live, scale, 0)
    dense = np.linalg.eigvalsh(scale[:, None] * np.asarray(dense_hessian(problem, run.params)) * scale)[-1]
    truth = 2 * (1 + 0.9) / (1 - 0.9) / dense  # Cohen et al. 2022: 38/eta at b1 = 0.9
    assert found.lower <= truth <= found.upper
    assert found.upper / found.lower < 1.01  # the residual asked for is 1e-3
    assert found.excluded == (~live).sum()
    assert found.edge_ratio == pytest.approx(1e-3 / truth, rel=1e-5)  # residual^2 over a gap of some tenths


@pytest.mark.parametrize(("factor", "grows"), [(0.98, False), (1.02, True)])
@pytest.mark.slow
def test_gradient_descent_grows_just_above_and_shrinks_just_below(trained, factor, grows):
    problem, run = trained
    limit = max_learning_rate(problem, optax.sgd, run.params).learning_rate
    # the difference of two runs from nearby points, with the gradient's own linear part: H held where it is
    hessian = dense_hessian(problem, run.params)
    top = jnp.linalg.eigh(hessian)[1][:, -1]
    flat, unravel = jax.flatten_util.ravel_pytree(run.params)
    transform, small = optax.sgd(factor * limit), 1e-6

    @jax.jit
    def stepped(v):
        both = [unravel(flat + sign * v) for sign in (1, -1)]
        moved = [optax.apply_updates(w, transform.update(problem.gradient(w), transform.init(w))[0]) for w in both]
        return (jax.flatten_util.ravel_pytree(moved[0])[0] - jax.flatten_util.ravel_pytree(moved[1])[0]) / 2

    v = small * top
    for _ in range(8):
        v = stepped(v)
    growth = (np.linalg.norm(v) / small) ** (1 / 8)
    # |1 - eta lambda| = 2 factor - 1; odd in v, so the first error is the fourth derivative's, of order small^2
    assert growth == pytest.approx(2 * factor - 1, rel=1e-5)
    assert (growth > 1) == grows


@pytest.mark.slow
def test_what_decay_alone_allows_where_nothing_curves_upwards():
    flat = problems.quadratic([-1.0, -2.0])
    assert max_learning_rate(flat, optax.sgd, flat.params).learning_rate == np.inf
    bound = max_learning_rate(flat, optax.adamw, flat.params, weight_decay=0.5).learning_rate
    assert bound == pytest.approx(2 / 0.5, rel=1e-9)  # |1 - eta omega| < 1; a bisection to rounding


def test_refusals():
    start = QUADRATIC.params
    with pytest.raises(NoLinearEdge):
        max_learning_rate(QUADRATIC, optax.sign_sgd, start)
    with pytest.raises(ValueError, match="not built"):
        max_learning_rate(QUADRATIC, optax.sgd(0.1), start)
    with pytest.raises(ValueError, match="no parameter learning_rate, it has speed"):
        max_learning_rate(QUADRATIC, lambda speed: optax.sgd(speed), start)
    with pytest.raises(ValueError, match="needs finite params"):
        max_learning_rate(QUADRATIC, optax.sgd, start * jnp.nan)

    def entangled(learning_rate):
        """Its P is sqrt(nu) + 100 eta."""
        return optax.rmsprop(learning_rate, eps=100 * learning_rate, eps_in_sqrt=False)

    with pytest.raises(ValueError, match="depends on its learning rate"):
        max_learning_rate(QUADRATIC, entangled, start)
