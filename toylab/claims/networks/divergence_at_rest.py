"""How a network leaves the edge: a push of the held step above the threshold, against the derived polynomial."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

import theory
from toylab.claims.ceilings import EXACT
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.experiments.divergence_at_rest import Sample, Weights, directions, growth_rates, hessians, oriented, trained
from toylab.optimizers import NAMED

SOURCE = "theory.edge, from each rule's code; the picture: Cohen et al. 2021 (arXiv:2103.00065), section 3"

MEMORYLESS = {"gd": (), "heavy_ball": ("momentum",), "nesterov": ("momentum",)}

ADAPTIVE = {"rmsprop": (), "adam": ("b1",), "nadam": ("b1",)}

RULES = MEMORYLESS | ADAPTIVE
"""Rule -> its hyperparameters that are drawn; an adaptive rule's P is held at the second moment that Adam reached."""


def _draw(random: np.random.Generator, tier: str) -> Sample:
    """For every rule new networks, hyperparameters, and a learning rate 3 to 30 per cent above the edge."""
    count = {"quick": 2, "default": 4, "long": 16}[tier]
    sample = {}
    for rule, names in (
        {rule: RULES[rule] for rule in ("gd", "heavy_ball", "adam")} if tier == "quick" else RULES
    ).items():
        keys = jax.vmap(jax.random.key)(jnp.asarray(random.integers(0, 2**31, count)))
        weights, moments = (np.asarray(array) for array in trained(keys))
        hyperparameters = {name: random.uniform(0.0, 0.9, count) for name in names} | {"learning_rate": np.ones(count)}
        pushes = random.standard_normal(weights.shape)
        at_one = Weights(hyperparameters, weights, moments, pushes)
        edge = theory.cached_edge(NAMED[rule])
        top = np.array([spectrum[-1] for spectrum, _ in _spectra(rule, at_one)])
        k = np.array([edge.at(**{name: float(h[i]) for name, h in hyperparameters.items()}).k for i in range(count)])
        sample[rule] = Weights(
            hyperparameters | {"learning_rate": random.uniform(1.03, 1.3, count) * k / top}, weights, moments, pushes
        )
    return sample


# ---------------------------------------------------------------------------------------------------------------
# Predictions: from the Hessian at the weights and the derived polynomial


def _spectra(rule: str, at: Weights) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each member the eigenvalues of P^-1 H, ascending, and its unit eigenvectors as columns."""
    edge = theory.cached_edge(NAMED[rule])
    spectra = []
    for i, hessian in enumerate(np.asarray(hessians(jnp.asarray(at.weights)))):
        values = {edge.symbols[name]: float(h[i]) for name, h in at.hyperparameters.items()}
        values |= {edge.symbols[name]: v for name, v in edge.reference.items() if edge.symbols[name] not in values}
        diagonal = sp.lambdify(list(edge.slow), edge.preconditioner.xreplace(values), "numpy")
        root = np.sqrt(np.broadcast_to(diagonal(*(at.moments[i] for _ in edge.slow)), hessian.shape[:1]))
        spectrum, vectors = np.linalg.eigh(hessian / np.outer(root, root))
        vectors = vectors / root[:, None]
        spectra.append((spectrum, vectors / np.linalg.norm(vectors, axis=0)))
    return spectra


def _fastest(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """log|z| (members,) of the fastest of all eigendirections and that direction (members, p)."""
    fastest = {}
    for rule, at in sample.items():
        rates, directions = [], []
        for i, (spectrum, vectors) in enumerate(_spectra(rule, at)):
            point = {name: float(h[i]) for name, h in at.hyperparameters.items()}
            numbers = theory.cached_edge(NAMED[rule]).at(**point)
            each = np.array([np.log(np.abs(numbers.roots(curvature)).max()) for curvature in spectrum])
            rates.append(each.max())
            directions.append(vectors[:, each.argmax()])
        fastest[rule] = np.array(rates), np.array(directions)
    return fastest


GROWTH = Claim(
    id="networks/divergence_rate",
    tier="quick",
    statement="at weights from training, with the slope there taken off, a push of the held step grows above the edge "
    "by log|z| a step, z the largest root of the polynomial derived from the rule's code at k = eta lambda(P^-1 H)",
    source=SOURCE,
    comparison=equality(
        1e-7,
        "in units of one: a push of 1e-7 is amplified rounding of 1e-16 in the gradient, 1e-9 relative; its square, "
        "which a flip of sign averages out, enters at 1e-12",
        ceiling=EXACT,
        scale=1.0,
    ),
    draw=_draw,
    predicted=lambda sample: {rule: pair[0] for rule, pair in _fastest(sample).items()},
    measure=growth_rates,
)


DIRECTION = Claim(
    id="networks/divergence_direction",
    tier="quick",
    statement="the same push ends up along the top eigenvector of P^-1 H, whatever it was at first",
    source=SOURCE,
    comparison=equality(
        2e-6,
        "coordinates of unit vectors: a push of 1e-7 bends them by the third derivative, some times the push, divided "
        "by the relative gap of the spectrum",
        ceiling=EXACT,
        scale=1.0,
    ),
    draw=_draw,
    predicted=lambda sample: {rule: oriented(pair[1]) for rule, pair in _fastest(sample).items()},
    measure=directions,
)


CLAIMS = [GROWTH, DIRECTION]
