"""Scalar losses have the derivatives that they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toylab import problems


def derivatives(problem, at, count):
    """Derivatives of order 2, 3, ... at a point, by repeated differentiation."""
    fn, found = jax.grad(problem.value), []
    for _ in range(count):
        fn = jax.grad(fn)
        found.append(float(fn(jnp.asarray(at))))
    return found


NORMAL = st.floats(-10, 10).map(lambda x: x if abs(x) > 1e-300 else 0.0)  # XLA flushes subnormal products to zero


@settings(max_examples=5)
@given(st.lists(NORMAL, min_size=3, max_size=3))
def test_a_polynomial_has_its_derivatives(wanted):
    problem = problems.scalar_polynomial(wanted)
    # a few roundings of products of factorials
    np.testing.assert_allclose(derivatives(problem, 0.0, len(wanted)), wanted, rtol=1e-13)
    assert float(problem.gradient(jnp.zeros(()))) == 0


@pytest.mark.parametrize(
    ("problem", "at", "wanted"),
    [
        (problems.quartic(2.0, -1.0, 3.0), 0.0, [2, -1, 3]),
        (problems.log_cosh(2.0), 0.0, [2, 0, -4]),
        (problems.catenary(2.0), 0.0, [2, 0, 2]),
        (problems.soft_label(0.8), np.log(4.0), [0.16, -0.096, 0.16 * (1 - 6 * 0.16)]),
    ],
)
def test_known_derivatives(problem, at, wanted):
    np.testing.assert_allclose(derivatives(problem, at, 3), wanted, atol=1e-14)  # rounding of numbers of order one
    np.testing.assert_allclose(problem.gradient(jnp.asarray(at)), 0, atol=1e-15)


def test_one_loss_serves_all_and_vmaps():
    jets = jnp.array([[1.0, 0.5, -1.0], [2.0, 0.0, 3.0]])
    values = jax.vmap(lambda jet: problems.scalar_polynomial(jet).value(jnp.asarray(0.3)))(jets)
    singly = [problems.quartic(*jet).value(jnp.asarray(0.3)) for jet in np.asarray(jets)]
    np.testing.assert_allclose(values, singly, rtol=1e-15)  # the same operations, perhaps fused
    assert problems.quartic().loss is problems.scalar_polynomial([1.0]).loss


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: problems.scalar_polynomial([]), "at least one"),
        (lambda: problems.quartic(start=[1.0, 2.0]), "one number"),
        (lambda: problems.quartic(a=np.nan), "finite"),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
