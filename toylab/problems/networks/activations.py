"""The nonlinearities of the units, elementwise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def gelu(x: Array) -> Array:
    """x Phi(x) with the normal distribution function Phi itself, through erf, not its tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


def identity(x: Array) -> Array:
    """x: the network is linear."""
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": gelu,
    "softplus": jax.nn.softplus,
    "hardtanh": jax.nn.hard_tanh,
    "swish": jax.nn.silu,
    "identity": identity,
}
"""tanh x; max(x, 0); x or e^x - 1 below 0; x Phi(x); log(1 + e^x); x cut at -1 and 1; x/(1 + e^-x); x.

relu and hardtanh have kinks: their Hessian is that of the piece, and at the kinks themselves the derivative is 0.
"""
