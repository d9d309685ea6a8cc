"""Smooth losses without symmetry, their derivatives by automatic differentiation, and their sharpness."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

N = 3


seeds = st.integers(0, 2**32 - 1)


def smooth(weights, w):
    """A loss with derivatives of every order and no symmetry: a wave, an exponential, a product, a bowl."""
    wave, ridge, bowl = weights
    return jnp.sin(wave @ w + 0.3) + jnp.exp(ridge @ w) + w[0] * w[1] ** 2 * w[2] / 3 + jnp.sum(bowl * w**2)


def drawn(seed):
    """Weights of `smooth`, a point and an orthonormal frame (its rows)."""
    random = np.random.default_rng(seed)
    weights = (1.5 * random.normal(size=N), 0.5 * random.normal(size=N), random.uniform(0.5, 1.5, N))
    frame = np.linalg.qr(random.normal(size=(N, N)))[0]
    return weights, random.normal(size=N), frame


@jax.jit
def tensors(weights, point, frame):
    """Derivatives of order 0 to 4 in the frame's coordinates, by nested forward mode."""

    def local(c):
        return smooth(weights, point + c @ frame)

    out, rows = [local], jnp.zeros(frame.shape[0])
    for _ in range(4):
        out.append(jax.jacfwd(out[-1]))
    return [f(rows) for f in out]


gradient = jax.jit(jax.grad(smooth, 1))


hessian = jax.jit(jax.hessian(smooth, 1))


# Two ways of forming the same products of a few numbers of order one, third powers of normal deviates among them.
SAME = {"rtol": 1e-10, "atol": 1e-10}


def top(weights, point):
    return np.linalg.eigvalsh(np.asarray(hessian(weights, point)))[-1]


def sharpness_slope(weights, point):
    """grad S by central differences of lambda_max itself, extrapolated once: the error is O(step^4)."""
    slopes = []
    for step in (2e-3, 1e-3):
        shifts = step * np.eye(N)
        slopes.append([(top(weights, point + d) - top(weights, point - d)) / (2 * step) for d in shifts])
    return (4 * np.array(slopes[1]) - np.array(slopes[0])) / 3
