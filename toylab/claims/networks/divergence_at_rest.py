"""How a network leaves the edge: the held step, run from a tiny push at weights from training, above the threshold.

The slope of the loss at these weights is taken off, L(w) - w . grad L(w_0), so that w_0 is at rest and every other
derivative is that of the network: what grows is then the divergence alone, without the drift of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

import theory
from toylab.claims.ceilings import EXACT
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.curvature import dense_hessian
from toylab.filters import limit_state, roles
from toylab.models import discrete_steps, rollout
from toylab.optimizers import NAMED
from toylab.problems import Problem, chebyshev_mlp
from toylab.rules.held import held_step
from toylab.rules.parities import Roles

SOURCE = "theory.edge, from each rule's code; the picture: Cohen et al. 2021 (arXiv:2103.00065), section 3"

MEMORYLESS = {"gd": (), "heavy_ball": ("momentum",), "nesterov": ("momentum",)}
ADAPTIVE = {"rmsprop": (), "adam": ("b1",), "nadam": ("b1",)}
RULES = MEMORYLESS | ADAPTIVE
"""Rule -> its hyperparameters that are drawn; an adaptive rule's P is held at the second moment that Adam reached."""

TRAINED = 300
"""Steps of Adam that lead to the weights and to the second moment."""
PUSH = 1e-7
"""Length of the push, to which the perturbation is scaled back after every step: its square is below rounding in L."""
STEPS = 4000
"""The first half lets the fastest direction win, the second is measured."""


@dataclass(frozen=True)
class Weights:
    """Hyperparameters name -> (members,), weights, second moments and pushes, each (members, p)."""

    hyperparameters: dict[str, np.ndarray]
    weights: np.ndarray
    moments: np.ndarray
    pushes: np.ndarray


Sample = dict[str, Weights]


def network(seed: Array | int = 0) -> Problem:
    """The small regression network of these claims, 30 weights."""
    return chebyshev_mlp(degree=3, hidden=(10,), seed=seed)


def value(flat: Array) -> Array:
    """Its loss on flat weights (p,)."""
    problem = network()
    return problem.value(ravel_pytree(problem.params)[1](flat))


@jax.jit
def trained(keys: Array) -> tuple[Array, Array]:
    """Weights and second moments (members, p) after Adam from the starts drawn by `keys`."""

    def one(key: Array) -> tuple[Array, Array]:
        problem = network(key)
        kernel = discrete_steps(problem, NAMED["adam"](0.01, b2=0.99))
        params, state = rollout(kernel, kernel.init(problem.params), TRAINED)[0]
        return ravel_pytree(params)[0], ravel_pytree(state[0].nu)[0]

    return jax.vmap(one)(keys)


@jax.jit
def hessians(weights: Array) -> Array:
    """The Hessians (members, p, p)."""
    problem = network()
    unravel = ravel_pytree(problem.params)[1]
    return jax.vmap(lambda flat: dense_hessian(problem, unravel(flat)))(weights)


def _draw(random: np.random.Generator, tier: str) -> Sample:
    """For every rule new networks, hyperparameters, and a learning rate 3 to 30 per cent above the edge."""
    count = {"quick": 2, "default": 4, "long": 16}[tier]
    sample = {}
    for rule, names in (
        {rule: RULES[rule] for rule in ("gd", "heavy_ball", "adam")} if tier == "quick" else RULES
    ).items():
        keys = jax.vmap(jax.random.key)(jnp.asarray(random.integers(0, 2**31, count)))
        weights, moments = (np.asarray(found) for found in trained(keys))
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
    found = []
    for i, hessian in enumerate(np.asarray(hessians(jnp.asarray(at.weights)))):
        values = {edge.symbols[name]: float(h[i]) for name, h in at.hyperparameters.items()}
        values |= {edge.symbols[name]: v for name, v in edge.reference.items() if edge.symbols[name] not in values}
        diagonal = sp.lambdify(list(edge.slow), edge.preconditioner.xreplace(values), "numpy")
        root = np.sqrt(np.broadcast_to(diagonal(*(at.moments[i] for _ in edge.slow)), hessian.shape[:1]))
        spectrum, vectors = np.linalg.eigh(hessian / np.outer(root, root))
        vectors = vectors / root[:, None]
        found.append((spectrum, vectors / np.linalg.norm(vectors, axis=0)))
    return found


def _fastest(sample: Sample) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """log|z| (members,) of the fastest of all eigendirections and that direction (members, p)."""
    found = {}
    for rule, at in sample.items():
        rates, directions = [], []
        for i, (spectrum, vectors) in enumerate(_spectra(rule, at)):
            point = {name: float(h[i]) for name, h in at.hyperparameters.items()}
            numbers = theory.cached_edge(NAMED[rule]).at(**point)
            each = np.array([np.log(np.abs(numbers.roots(curvature)).max()) for curvature in spectrum])
            rates.append(each.max())
            directions.append(vectors[:, each.argmax()])
        found[rule] = np.array(rates), np.array(directions)
    return found


# ---------------------------------------------------------------------------------------------------------------
# The experiment: the rule's own code, step by step


@cache
def _roles(rule: str) -> Roles:
    return roles(NAMED[rule](learning_rate=0.1), jnp.zeros(()))


@partial(jax.jit, static_argnums=0)
def _pushed(rule: str, hyperparameters: dict[str, Array], *arrays: Array) -> tuple[Array, Array]:
    """Growth per step, (members,), and direction, (members, p), of what a push has become."""

    def one(hyperparameters: dict[str, Array], weights: Array, moment: Array, push: Array) -> tuple[Array, Array]:
        transform, parts = NAMED[rule](**hyperparameters), _roles(rule)
        step, slope = held_step(transform, parts), jax.grad(value)(weights)
        held = [moment for _ in parts.slow]
        leaves, tree = jax.tree.flatten(limit_state(transform, weights, parts))

        def scaled(by: Array, off: Array, state: list[Array]) -> tuple[Array, list[Array]]:
            return by * off, [by * leaf if i in parts.fast else leaf for i, leaf in enumerate(state)]

        def stepped(carry: tuple[Array, list[Array]], _: None) -> tuple[tuple[Array, list[Array]], Array]:
            off, state = carry
            gradient = jax.grad(value)(weights + off) - slope
            update, after = step(gradient, jax.tree.unflatten(tree, state), weights + off, held)
            longer = jnp.linalg.norm(off + update) / PUSH
            return scaled(1 / longer, off + update, jax.tree.leaves(after)), jnp.log(longer)

        start = (PUSH * push / jnp.linalg.norm(push), leaves)
        (off, _), logs = lax.scan(stepped, start, None, length=STEPS)
        return jnp.mean(logs[STEPS // 2 :]), off / PUSH

    return jax.vmap(one)(hyperparameters, *arrays)


def _run(rule: str, at: Weights) -> tuple[np.ndarray, np.ndarray]:
    _roles(rule)  # found by running the rule, which cannot be done inside the compiled program
    rates, directions = _pushed(rule, at.hyperparameters, at.weights, at.moments, at.pushes)
    return np.asarray(rates), np.asarray(directions)


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
    predicted=lambda sample: {rule: found[0] for rule, found in _fastest(sample).items()},
    measure=lambda sample: {rule: _run(rule, at)[0] for rule, at in sample.items()},
)


def _oriented(vectors: np.ndarray) -> np.ndarray:
    """Vectors (members, p) with the sign that makes their largest coordinate positive."""
    largest = np.argmax(np.abs(vectors), axis=-1)[:, None]
    return vectors * np.sign(np.take_along_axis(vectors, largest, axis=-1))


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
    predicted=lambda sample: {rule: _oriented(found[1]) for rule, found in _fastest(sample).items()},
    measure=lambda sample: {rule: _oriented(_run(rule, at)[1]) for rule, at in sample.items()},
)

CLAIMS = [GROWTH, DIRECTION]
