"""Explicit Runge-Kutta steps of given length for x' = velocity(x), x any pytree of arrays.

Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.1.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

PyTree = Any


def heun(velocity: Callable[[PyTree], PyTree], point: PyTree, step: ArrayLike) -> PyTree:
    """One step of Heun's method, order 2, in each leaf's precision: two evaluations of `velocity`, stable on the
    negative real axis up to step x rate = 2."""

    def stage(_: Array, done: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        total, place = done
        slope = velocity(place)
        return jax.tree.map(jnp.add, total, slope), _ahead(point, slope, step)

    # a loop, so that the velocity is in the program once
    total, _ = lax.fori_loop(0, 2, stage, (jax.tree.map(jnp.zeros_like, point), point))
    return _ahead(point, jax.tree.map(lambda v: v / 2, total), step)


def classical_runge_kutta(velocity: Callable[[PyTree], PyTree], point: PyTree, step: ArrayLike) -> PyTree:
    """One step of the classical method of order 4, in each leaf's precision: four evaluations of `velocity`, stable on
    the negative real axis up to step x rate = 2.78."""
    first = velocity(point)
    second = velocity(_ahead(point, first, step / 2))
    third = velocity(_ahead(point, second, step / 2))
    fourth = velocity(_ahead(point, third, step))
    mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth)
    return _ahead(point, mean, step)


def _ahead(point: PyTree, slope: PyTree, step: ArrayLike) -> PyTree:
    return jax.tree.map(lambda x, v: x + (step * v).astype(x.dtype), point, slope)
