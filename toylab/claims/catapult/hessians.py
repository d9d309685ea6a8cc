"""Hessians of linear nets: closed forms against the real loss, differentiated twice."""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np

from theory.theorem import Theorem
from theory.toy_losses import linear_net_hessians as hessians
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.experiments.linear_net_spectra import Sample, sharpness_of_minima, two_layer_spectra
from toylab.problems import deep_linear, matrix_factorisation, two_layer_linear

SOURCE = "theory.toy_losses.linear_net_hessians, from the traced loss"


@cache
def two_layer() -> Theorem:
    """The spectrum of the two-layer net, derived once."""
    return hessians.two_layer_hessian(two_layer_linear(width=1).loss)


# ---------------------------------------------------------------------------------------------------------------
# Anywhere: the two-layer net


def _anywhere(random: np.random.Generator, tier: str) -> Sample:
    count = {"quick": 20, "default": 200, "long": 2_000}[tier]
    return {
        f"n = {n}": {
            "u": random.standard_normal((count, n)),
            "v": random.standard_normal((count, n)),
            "targets": random.standard_normal(count) * random.choice([0.0, 3.0], count),
        }
        for n in (2, 3, 8)
    }


def _spectra(sample: Sample) -> dict[str, np.ndarray]:
    names = ("drive", "sharpness", "partner")
    drive, top, partner = (two_layer().numeric(name) for name in names)
    out = {}
    for label, drawn in sample.items():
        n = drawn["u"].shape[1]
        numbers = {
            "f": np.sum(drawn["u"] * drawn["v"], 1) / np.sqrt(n),
            "lambda_": (np.sum(drawn["u"] ** 2, 1) + np.sum(drawn["v"] ** 2, 1)) / n,
            "n": float(n),
            "y": drawn["targets"],
        }
        numbers = {name: jnp.asarray(value) for name, value in numbers.items()}
        bulk = np.asarray(drive(**numbers))
        rows = [np.asarray(partner(**numbers)), np.asarray(top(**numbers)), *([bulk, -bulk] * (n - 1))]
        out[label] = np.sort(np.stack(rows, axis=1), axis=1)
    return out


TWO_LAYER = Claim(
    id="catapult/hessian_spectrum",
    tier="default",
    statement="at any weights and label the Hessian of the two-layer linear net has the eigenvalues +-(f - y)/sqrt(n), "
    "each n - 1 times, and two roots of a quadratic: without label the sharpness is (lambda + sqrt(lambda^2 + "
    "12 f^2/n))/2",
    source=SOURCE,
    comparison=equality(1e-11, "a dense eigensolver on matrices of entries of order one, up to 16 x 16", scale=1.0),
    draw=_anywhere,
    predicted=_spectra,
    measure=two_layer_spectra,
)


# ---------------------------------------------------------------------------------------------------------------
# At a minimum: deep nets and factorisations


def _rotation(random: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(random.standard_normal((size, size)))[0]


def _minima(random: np.random.Generator, tier: str) -> Sample:
    count = {"quick": 3, "default": 6, "long": 100}[tier]
    deep = {}
    for depth in (2, 4):
        weights, targets = [], []
        for _ in range(count):
            values = random.uniform(0.2, 2.0, 3)
            turns = [_rotation(random, 3) for _ in range(depth + 1)]
            layers = [turns[i + 1] @ np.diag(values ** (1 / depth)) @ turns[i].T for i in range(depth)]
            weights.append(np.stack(layers))
            targets.append(turns[-1] @ np.diag(values) @ turns[0].T)
        deep[f"L = {depth}"] = {"weights": np.stack(weights), "targets": np.stack(targets)}
    factors = (random.standard_normal((count, 5, 3)), random.standard_normal((count, 4, 3)))
    return {"deep": deep, "factors": factors}


def _predicted_tops(sample: Sample) -> dict[str, np.ndarray]:
    out = {}
    for label, drawn in sample["deep"].items():
        theorem = hessians.deep_linear_hessian(deep_linear(depth=1, width=1).loss, int(label.split()[-1]))
        largest = np.linalg.norm(drawn["targets"], ord=2, axis=(1, 2))
        out[f"deep, {label}"] = np.asarray(theorem.numeric("sharpness")(sigma=jnp.asarray(largest)))
    theorem = hessians.factorisation_hessian(matrix_factorisation(rank=1).loss)
    tops = [jnp.asarray(np.linalg.norm(part, ord=2, axis=(1, 2))) for part in sample["factors"]]
    out["factorisation"] = np.asarray(theorem.numeric("sharpness")(sigma_u=tops[0], sigma_v=tops[1]))
    return out


MINIMA = Claim(
    id="catapult/sharpness_of_minima",
    tier="default",
    statement="at a balanced minimum the sharpness of a deep linear net is L sigma_1(A)^(2 - 2/L); at a minimum that "
    "fits, that of a matrix factorisation is sigma_max(U)^2 + sigma_max(V)^2",
    source=SOURCE,
    comparison=equality(1e-10, "a dense eigensolver on up to 36 x 36; the minimum itself is met to rounding"),
    draw=_minima,
    predicted=_predicted_tops,
    measure=sharpness_of_minima,
)


CLAIMS = [TWO_LAYER, MINIMA]
