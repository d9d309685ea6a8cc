"""Quadratic losses with a prescribed spectrum: the truth about them is known."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from toylab.problems.problem import Problem


def quadratic(eigenvalues: ArrayLike, start: ArrayLike | None = None, key: Array | None = None) -> Problem:
    """L(w) = (1/2) sum_i lambda_i (q_i . w)^2 in n dimensions, whose Hessian has eigenvalues lambda_i,
    eigenvectors q_i.

    `eigenvalues`: n real numbers of any sign, a scalar for n = 1. `key`: a JAX random key draws the
    orthonormal q_i (Haar distributed); without it q_i is the i-th unit vector. `start`: n numbers in
    parameter space; by default every q_i . w is 1. The data is a single example, (eigenvalues (1, n), q (1,
    n, n) or None): stacking examples gives the mean of their quadratics. Arguments may be traced, so a sweep
    can run over spectra or bases.

    Raises ValueError if the spectrum is empty, not one-dimensional or not finite, or if `start` does not fit
    it.
    """
    spectrum = jnp.atleast_1d(jnp.asarray(eigenvalues, dtype=float))
    if spectrum.ndim != 1 or spectrum.size == 0:
        raise ValueError(
            f"quadratic: got eigenvalues of shape {spectrum.shape}, needs a list of at least one number: "
            "try eigenvalues=[1.0, 0.1]"
        )
    if not isinstance(spectrum, Tracer) and not bool(jnp.isfinite(spectrum).all()):
        bad = int(jnp.argmin(jnp.isfinite(spectrum)))
        raise ValueError(
            f"quadratic: got eigenvalue {float(spectrum[bad])} at position {bad}, needs finite numbers: "
            "check where the spectrum was computed"
        )
    dimension = spectrum.size
    basis = None if key is None else _orthonormal(key, dimension)
    if start is None:
        params = jnp.ones(dimension, dtype=float)
        params = params if basis is None else basis.T @ params
    else:
        params = jnp.atleast_1d(jnp.asarray(start, dtype=float))
        if params.shape != (dimension,):
            raise ValueError(
                f"quadratic: got a start of shape {params.shape} for {dimension} eigenvalues: give {dimension} numbers"
            )
    data = (spectrum[None], None if basis is None else basis[None])
    return Problem(_mean_quadratic, params, data, name="quadratic")


def _mean_quadratic(params: Array, data: tuple[Array, Array | None]) -> Array:
    spectra, bases = data
    coordinates = params[None] if bases is None else bases @ params
    return 0.5 * jnp.mean(jnp.sum(spectra * coordinates**2, axis=-1))


def _orthonormal(key: Array, dimension: int) -> Array:
    """A Haar random orthogonal matrix. Drawn in float32, so both precisions see the same basis up to
    rounding."""
    gaussian = jax.random.normal(key, (dimension, dimension), dtype=jnp.float32).astype(float)
    rotation, triangle = jnp.linalg.qr(gaussian)
    # Without the signs the distribution is LAPACK's, not Haar (Mezzadri 2007, "How to generate random matrices").
    return rotation * jnp.where(jnp.diagonal(triangle) < 0, -1.0, 1.0)[None]


PROBLEMS = {"quadratic": quadratic}
