"""Gauss-Newton products, third derivatives, spectral density, and a second opinion on the eigenpairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse.linalg import lobpcg_standard
from jax.flatten_util import ravel_pytree

from toylab import Problem
from toylab.curvature import (
    dense_hessian,
    dense_matrix,
    dense_sharpness,
    gauss_newton,
    sharpness_gradient,
    spectral_density,
    third_derivative,
    top_eigenpairs,
)
from toylab.problems.problem import NetworkLoss


def apply(params, inputs):
    return jnp.tanh(inputs @ params["in"]) @ params["out"]


def half_square(outputs, targets):
    return 0.5 * jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1))


def network(targets_are_outputs: bool = False) -> Problem:
    keys = jax.random.split(jax.random.key(0), 4)
    params = {"in": jax.random.normal(keys[0], (3, 4)), "out": jax.random.normal(keys[1], (4, 2))}
    inputs, targets = jax.random.normal(keys[2], (7, 3)), jax.random.normal(keys[3], (7, 2))
    if targets_are_outputs:
        targets = apply(params, inputs)
    return Problem(NetworkLoss(apply, half_square), params, (inputs, targets))


def test_gauss_newton_is_j_transposed_j_and_the_hessian_where_residuals_vanish() -> None:
    problem = network()
    flat, unravel = ravel_pytree(problem.params)
    found = jax.jit(lambda p: dense_matrix(gauss_newton(problem, p), p))(problem.params)
    jacobian = jax.jit(jax.jacobian(lambda w: apply(unravel(w), problem.data[0]).ravel()))(flat)
    np.testing.assert_allclose(found, jacobian.T @ jacobian / 7, atol=1e-13)  # H_out = I / examples; a few roundings
    fitted = network(targets_are_outputs=True)
    matrix = jax.jit(lambda p: dense_matrix(gauss_newton(fitted, p), p))(fitted.params)
    np.testing.assert_allclose(matrix, jax.jit(dense_hessian)(fitted, fitted.params), atol=1e-13)  # a few roundings
    with pytest.raises(ValueError, match="needs a network's"):
        gauss_newton(Problem(lambda w: w @ w, jnp.ones(2)), jnp.ones(2))


def test_dense_sharpness_is_the_largest_eigenvalue_also_among_negative_ones() -> None:
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    for eigenvalues in ([3.0, 1.0, 0.0, -5.0], [-1.0, -2.0, -3.0, -4.0]):
        matrix = jnp.asarray(turned @ np.diag(eigenvalues) @ turned.T)
        problem = Problem(lambda w, matrix=matrix: w @ matrix @ w / 2, jnp.zeros(4))
        # rounding of a product with an orthogonal matrix, some eps times the largest entry
        np.testing.assert_allclose(dense_sharpness(problem, problem.params), max(eigenvalues), rtol=0, atol=1e-13)


def test_third_derivatives_against_differences_of_the_hessian() -> None:
    problem = network()
    flat, unravel = ravel_pytree(problem.params)
    u, v = (jax.random.normal(key, flat.shape) for key in jax.random.split(jax.random.key(5)))

    @jax.jit
    def turned(first, second):
        return ravel_pytree(third_derivative(problem.value, problem.params, unravel(first), unravel(second)))[0]

    hessian = jax.jit(lambda w: dense_hessian(problem, unravel(w)))
    step = 1e-5
    differences = (hessian(flat + step * u) - hessian(flat - step * u)) @ v / (2 * step)
    # central differences: step^2 times a fifth derivative, and rounding / step: about 1e-10 of numbers of order 10
    np.testing.assert_allclose(turned(u, v), differences, atol=1e-7)
    np.testing.assert_allclose(turned(u, v), turned(v, u), atol=1e-12)  # symmetric up to rounding
    np.testing.assert_allclose(turned(2 * u, 3 * v), 6 * turned(u, v), atol=1e-12)  # bilinear up to rounding


@pytest.mark.slow
def test_sharpness_gradient_against_differences_of_the_sharpness() -> None:
    problem = network()
    flat, unravel = ravel_pytree(problem.params)
    hessian = jax.jit(lambda w: dense_hessian(problem, unravel(w)))
    top = np.linalg.eigh(hessian(flat))[1][:, -1]
    gradient = ravel_pytree(sharpness_gradient(problem.value, problem.params, unravel(jnp.asarray(-3 * top))))[0]
    step = 1e-5
    for index in range(0, flat.size, 5):
        above, below = (np.linalg.eigvalsh(hessian(flat.at[index].add(sign * step)))[-1] for sign in (1, -1))
        np.testing.assert_allclose(gradient[index], (above - below) / (2 * step), atol=1e-7)  # as above


@pytest.mark.slow
def test_top_eigenpairs_agree_with_lobpcg() -> None:
    dimension = 40
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(dimension, dimension)))[0]
    matrix = jnp.asarray((rotation * np.linspace(0.1, 3, dimension) ** 2) @ rotation.T)
    start = jax.random.normal(jax.random.key(1), (dimension, 2))
    theirs, vectors, _ = lobpcg_standard(matrix, start, m=200)
    ours = top_eigenpairs(lambda v: matrix @ v, start.T, tolerance=1e-9, limit=500)
    assert ours.converged.all()
    np.testing.assert_allclose(ours.value, theirs, rtol=1e-8)  # both stop at residuals below 1e-8 or so
    overlap = np.abs(np.sum(ours.vector * vectors.T, axis=1))
    np.testing.assert_allclose(overlap, 1, rtol=1e-8)  # second order in residual / gap


@pytest.mark.slow
def test_quadrature_gives_the_moments_of_each_probe(key: jax.Array) -> None:
    spectrum = np.random.default_rng(0).uniform(-1, 2, 30)
    spectrum[:3] = 2.5  # degenerate
    steps = 6
    found = jax.jit(lambda: spectral_density(lambda v: spectrum * v, jnp.zeros(30), key, probes=3, products=steps))()
    probes = [np.array(jax.random.normal(k, (30,))) for k in jax.random.split(key, 3)]
    for nodes, weights, probe in zip(found.nodes, found.weights, probes, strict=True):
        unit = probe / np.linalg.norm(probe)
        for power in range(2 * steps):
            # exact for powers below 2 m: what is left is rounding in numbers up to 2.5^11 = 2e4
            np.testing.assert_allclose(np.sum(weights * nodes**power), np.sum(unit**2 * spectrum**power), rtol=1e-10)
    assert abs(np.sum(found.weights * found.nodes ** (2 * steps)) - 3 * np.mean(spectrum ** (2 * steps))) > 1e-3


@pytest.mark.slow
def test_density_integrates_to_one_and_its_error_is_that_of_the_probes(key: jax.Array) -> None:
    spectrum = jnp.concatenate([jnp.zeros(35), jnp.array([1.0, 1.0, 2.0, 4.0, -1.0])])  # a small Krylov space
    found = spectral_density(lambda v: spectrum * v, jnp.zeros(40), key, probes=24, products=64)
    assert found.nodes.shape == (24, 40) and (found.weights >= 0).all()
    grid = jnp.linspace(-3, 6, 901)
    density, error = found.density(grid, 0.1)
    np.testing.assert_allclose(jnp.trapezoid(density, grid), 1, rtol=1e-6)  # the trapezoid sum of Gaussians is exact
    exact = jnp.mean(jnp.exp(-0.5 * ((grid[:, None] - spectrum[None]) / 0.1) ** 2), axis=1) / (0.1 * np.sqrt(2 * np.pi))
    peaks = jnp.asarray([200, 300, 400, 500, 700])  # the eigenvalues on the grid
    # five standard errors (24 probes: a t distribution with 23 degrees of freedom exceeds that once in 20,000)
    assert (jnp.abs(density - exact)[peaks] <= 5 * error[peaks]).all()
    mean, spread = found.moment(2)
    assert abs(mean - jnp.mean(spectrum**2)) <= 5 * spread
    assert jnp.isnan(found.density(grid, 0.1)[1]).any() == jnp.asarray(False)
    with pytest.raises(ValueError, match="at least 1 of each"):
        spectral_density(lambda v: v, jnp.zeros(3), key, probes=0)


@pytest.mark.slow
def test_density_leaves_out_dead_coordinates(key: jax.Array) -> None:
    inverse = jnp.ones(12).at[:4].set(jnp.inf)
    spectrum = jnp.arange(12.0)
    found = spectral_density(
        lambda v: spectrum * v, spectrum, key, inverse_preconditioner=inverse, probes=2, products=12
    )
    used = np.asarray(found.nodes)[np.asarray(found.weights) > 1e-12]
    np.testing.assert_allclose(np.sort(used), np.repeat(np.arange(4.0, 12.0), 2), atol=1e-9)  # a few roundings
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-12)  # a unit probe
