"""The spectral density of a symmetric operator from Lanczos quadrature at random probes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from toylab.curvature.eigenpairs import flattened
from toylab.curvature.orthonormal import norm, orthogonalised, random_unit, unit_or_zero
from toylab.numerics.full_precision import fully_precise

PyTree = Any


class Spectrum(NamedTuple):
    """Gauss quadrature of the spectral measure of each probe: `nodes` (n, m), ascending, `weights` (n, m) >= 0 that sum
    to 1 over m.

    For the unit probe v of a row, sum_i weights_i nodes_i^j = v^T A^j v for all j < 2 m, up to rounding; its mean over
    all probes is tr(A^j) / p, p the number of live coordinates. Where the Krylov space has fewer than m dimensions
    the surplus nodes have weight 0.
    """

    nodes: Array
    weights: Array

    def density(self, grid: Array, width: Array | float) -> tuple[Array, Array]:
        """The density on `grid` (g,), and its standard error over the probes (NaN for one probe), both (g,).

        Each node is a normal distribution of standard deviation `width`, in units of the eigenvalues; integrates to 1.
        """

        def smoothed(nodes: Array, weights: Array) -> Array:
            away = (grid[:, None] - nodes[None]) / width
            return jnp.exp(-0.5 * away**2) @ weights / (width * jnp.sqrt(2 * jnp.pi))

        return _mean_and_error(jax.vmap(smoothed)(self.nodes, self.weights))

    def moment(self, power: int) -> tuple[Array, Array]:
        """An estimate of tr(A^power) / p, and its standard error over the probes (NaN for one probe), both ()."""
        return _mean_and_error(jnp.sum(self.weights * self.nodes**power, axis=1))


@fully_precise
def spectral_density(
    matvec: Callable[[PyTree], PyTree],
    like: PyTree,
    key: Array,
    *,
    inverse_preconditioner: PyTree = None,
    probes: int = 4,
    products: int = 64,
) -> Spectrum:
    """The spectrum of A = H or A = P^-1/2 H P^-1/2 seen by `probes` random normal directions, `products` products each.

    `matvec`: v -> H v on pytrees like `like`; `inverse_preconditioner` as in `top_eigenpairs`: coordinates where it is
    not a finite number >= 0 are left out. Lanczos with full reorthogonalisation, so no eigenvalue appears twice.
    Memory: products x p numbers, one probe after the other. Source: Ghorbani, Krishnan & Xiao, arXiv:1901.10159,
    section 2 and appendix A. Raises ValueError for fewer than one probe or product.
    """
    if probes < 1 or products < 1:
        raise ValueError(f"spectral_density: got probes={probes}, products={products}, needs at least 1 of each")
    apply, live = flattened(matvec, like, inverse_preconditioner)
    flat, _ = ravel_pytree(like)
    size = min(products, flat.size)

    def quadrature(probe_key: Array) -> tuple[Array, Array]:
        normal = jnp.where(live, jax.random.normal(probe_key, flat.shape, flat.dtype), 0)
        initial, _ = unit_or_zero(normal, 0.0)

        def extend(index: Array, carry: tuple) -> tuple:
            basis, projected, vector = carry
            basis = lax.dynamic_update_index_in_dim(basis, vector, index, 0)
            image = apply(vector)
            row = basis @ image
            projected = projected.at[index].set(row).at[:, index].set(row)
            # below rounding of the product itself the Krylov space is exhausted: go on in a direction that it misses,
            # which the probe does not see (no coupling, hence weight 0)
            floor = 100 * jnp.finfo(flat.dtype).eps * norm(image)
            following, good = unit_or_zero(orthogonalised(basis, image), floor)
            other, _ = unit_or_zero(orthogonalised(basis, random_unit(index, live, flat.dtype)), 1e-3)
            return basis, projected, jnp.where(good, following, other)

        start = (jnp.zeros((size, flat.size), flat.dtype), jnp.zeros((size, size), flat.dtype), initial)
        _, projected, _ = lax.fori_loop(0, size, extend, start)
        nodes, vectors = jnp.linalg.eigh(projected)
        return nodes, vectors[0] ** 2

    return Spectrum(*lax.map(quadrature, jax.random.split(key, probes)))


def _mean_and_error(values: Array) -> tuple[Array, Array]:
    """Mean over the first axis and its standard error."""
    count = values.shape[0]
    error = jnp.std(values, axis=0, ddof=1) / count**0.5 if count > 1 else jnp.full(values.shape[1:], jnp.nan)
    return jnp.mean(values, axis=0), error
