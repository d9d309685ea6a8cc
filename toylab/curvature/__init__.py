"""Curvature without matrices: products, top eigenpairs with their residuals, third derivatives, spectral density.

`follow` tracks eigenpairs along a run, `top_eigenpairs` computes them at one point; both return an `EigenPair`.

Example:
    >>> import jax.numpy as jnp
    >>> from toylab import curvature, problems
    >>> problem = problems.quadratic([3.0, 1.0, 0.5])
    >>> pairs = curvature.top_eigenpairs(problem.hessian(problem.params), jnp.zeros((2, 3)))
    >>> [round(float(value), 4) for value in pairs.value]
    [3.0, 1.0]
    >>> pairs.converged.tolist()
    [True, True]
"""

from toylab.curvature.eigenpairs import RESTART, EigenPair, top_eigenpair, top_eigenpairs
from toylab.curvature.following import LOOKOUT, Track, begin_track, follow
from toylab.curvature.products import dense_hessian, dense_matrix, dense_sharpness, gauss_newton, hvp
from toylab.curvature.spectral import Spectrum, spectral_density
from toylab.curvature.third_derivatives import sharpness_gradient, third_derivative

__all__ = [
    "LOOKOUT",
    "RESTART",
    "EigenPair",
    "Spectrum",
    "Track",
    "begin_track",
    "dense_hessian",
    "dense_matrix",
    "dense_sharpness",
    "follow",
    "gauss_newton",
    "hvp",
    "sharpness_gradient",
    "spectral_density",
    "third_derivative",
    "top_eigenpair",
    "top_eigenpairs",
]
