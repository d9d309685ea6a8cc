"""Experiments on Hessians of linear nets: the real loss, differentiated twice."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from toylab.curvature import dense_sharpness
from toylab.experiments import catapult_runs as lab
from toylab.problems import deep_linear, matrix_factorisation

Sample = dict[str, Any]


def two_layer_spectra(sample: Sample) -> dict[str, np.ndarray]:
    """All eigenvalues (members, 2 n) of the Hessians, ascending."""
    return {
        label: np.asarray(lab.spectra(*(jnp.asarray(drawn[name]) for name in ("u", "v", "targets"))))
        for label, drawn in sample.items()
    }


def sharpness_of_minima(sample: Sample) -> dict[str, np.ndarray]:
    """The largest eigenvalue (members,) of each Hessian at its minimum."""
    out = {}
    for label, drawn in sample["deep"].items():
        depth = int(label.split()[-1])
        tops = jax.jit(jax.vmap(lambda w, a, depth=depth: dense_sharpness(deep_linear(depth=depth, target=a), w)))
        out[f"deep, {label}"] = np.asarray(tops(jnp.asarray(drawn["weights"]), jnp.asarray(drawn["targets"])))
    u, v = (jnp.asarray(part) for part in sample["factors"])
    tops = jax.jit(jax.vmap(lambda u, v: dense_sharpness(matrix_factorisation(target=u @ v.T, rank=3), (u, v))))
    out["factorisation"] = np.asarray(tops(u, v))
    return out
