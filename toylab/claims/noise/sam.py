"""SAM: where runs of optax's own transform lose stability, and the cycle that tests nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

import theory
from theory.edges.sam import sam_cycle, sam_edge
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality
from toylab.optimizers import NAMED
from toylab.problems import Problem

SOURCE = "theory.edges.sam: optax.contrib.sam traced on a local quadratic; Foret et al., arXiv:2010.01412"
OUTER: dict[str, dict[str, float]] = {
    "gd": {},
    "heavy_ball": {"momentum": 0.7},
    "ema_momentum": {"momentum": 0.6},
}
AMPLITUDE = 2.0**-30


def _descent(rule: str, named: dict, rho: Any, normalised: bool) -> optax.GradientTransformationExtraArgs:
    ascent = optax.sgd(rho)
    if normalised:
        ascent = optax.chain(optax.contrib.normalize(), ascent)
    return optax.contrib.sam(NAMED[rule](**named), ascent, opaque_mode=True)


def _loss(params: Any, data: Any) -> Any:
    """A curved direction and one in which the loss falls steadily."""
    curvature, slope = data
    return jnp.mean(curvature * params[0] ** 2 / 2 + slope * params[1])


@partial(jax.jit, static_argnums=(0, 2))
def _radii(rule: str, inputs: dict, normalised: bool, curvatures: Any) -> Any:
    """`_radius` of every member."""
    return jax.vmap(lambda one, curvature: _radius(rule, one, normalised, curvature))(inputs, curvatures)


def _radius(rule: str, inputs: dict, normalised: bool, curvature: Any) -> Any:
    """Growth a step of a small x: trace and determinant of the real step on (x, momentum along x)."""
    problem = Problem(_loss, jnp.zeros(2), (curvature[None], inputs["norm"][None]))
    transform = _descent(rule, inputs["named"], inputs["rho"], normalised)
    state = transform.init(problem.params)
    leaves, tree = jax.tree.flatten(state)
    fast = [i for i, leaf in enumerate(leaves) if leaf.shape == (2,)]

    def gradient(params: Any, _: int = 0) -> Any:
        return problem.gradient(params)

    def run(small: Any) -> Any:
        now = [leaf.at[0].set(small[1 + fast.index(i)]) if i in fast else leaf for i, leaf in enumerate(leaves)]
        params = problem.params.at[0].set(small[0])
        old = jax.tree.unflatten(tree, now)
        update, new = transform.update(gradient(params), old, params, grad_fn=gradient)
        after = jax.tree.leaves(new)
        return jnp.stack([(params + update)[0], *(after[i][0] for i in fast)])

    size = 1 + len(fast)
    matrix = jax.vmap(run, in_axes=1, out_axes=1)(AMPLITUDE * jnp.eye(size)) / AMPLITUDE
    if size == 1:
        return jnp.abs(matrix[0, 0])
    half, product = jnp.trace(matrix) / 2, jnp.linalg.det(matrix)
    root = jnp.sqrt((half**2 - product).astype(complex))
    return jnp.maximum(jnp.abs(half + root), jnp.abs(half - root))


def _edges(sample: Any) -> dict[str, np.ndarray]:
    out = {}
    for rule, members in sample.items():
        inputs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        columns = []
        for normalised in (True, False):
            low, high = np.zeros(len(members)), np.full(len(members), 1e6)
            for _ in range(80):
                middle = (low + high) / 2
                grows = np.asarray(_radii(rule, inputs, normalised, jnp.asarray(middle))) > 1
                low, high = np.where(grows, low, middle), np.where(grows, middle, high)
            columns.append((low + high) / 2)
        out[rule] = np.stack(columns, axis=1)
    return out


def _told(sample: Any) -> dict[str, np.ndarray]:
    out = {}
    for rule, members in sample.items():
        rows = []
        for inputs in members:
            named = {name: float(value) for name, value in inputs["named"].items()}
            gain = theory.cached_edge(NAMED[rule]).at(**named).k
            given = {"learning_rate": named["learning_rate"], "rho": float(inputs["rho"]), "edge_gain": gain}
            rows.append(
                [
                    float(sam_edge(normalised).numeric("threshold")(**given, gradient_norm=float(inputs["norm"])))
                    for normalised in (True, False)
                ]
            )
        out[rule] = np.array(rows)
    return out


def _drawn(random: np.random.Generator, tier: str) -> Any:
    count = {"quick": 3, "default": 10, "long": 100}[tier]
    return {
        rule: [
            {
                "named": {n: jnp.asarray(v) for n, v in ({"learning_rate": random.uniform(0.01, 1)} | fixed).items()},
                "rho": jnp.asarray(10 ** random.uniform(-3, 0)),
                "norm": jnp.asarray(10 ** random.uniform(-1, 1)),
            }
            for _ in range(count)
        ]
        for rule, fixed in list(OUTER.items())[: 2 if tier == "quick" else None]
    }


EDGE = Claim(
    id="noise/sam_edge",
    tier="quick",
    statement="SAM loses stability along u where eta lambda (1 + rho lambda/|g|) = k*, k* its outer rule's own edge "
    "gain, if other directions dominate |g|; unnormalised where eta lambda (1 + rho lambda) = k*",
    source=SOURCE,
    comparison=equality(1e-10, "bisected to the last digit; the crossing is transversal, x^2/|g|^2 is below 1e-12"),
    draw=_drawn,
    predicted=_told,
    measure=_edges,
)

# ---------------------------------------------------------------------------------------------------------------
# Alone


def _cycles(sample: dict[str, np.ndarray]) -> np.ndarray:
    """(members, 2): |x| after 20,000 steps where the whole gradient lies along u, and how often the sign changed."""

    @jax.jit
    @jax.vmap
    def run(inputs: dict) -> Any:
        problem = Problem(_loss, jnp.array([0.1, 0.0]), (inputs["curvature"][None], jnp.zeros(1)))
        transform = _descent("gd", {"learning_rate": inputs["eta"]}, inputs["rho"], True)

        def gradient(params: Any, _: int = 0) -> Any:
            return problem.gradient(params)

        def step(params: Any, _: None) -> tuple[Any, Any]:
            state = transform.init(params)  # gradient descent has none
            update: Any = transform.update(gradient(params), state, params, grad_fn=gradient)[0]
            return params + update, params[0] * (params + update)[0] < 0

        last, flips = jax.lax.scan(step, problem.params, length=20_000)
        return jnp.stack([jnp.abs(last[0]), jnp.mean(flips[-1000:])])

    return np.asarray(run({name: jnp.asarray(values) for name, values in sample.items()}))


def _alone(random: np.random.Generator, tier: str) -> dict[str, np.ndarray]:
    eta, rho, share = random.uniform(0.05, 1, 12), 10 ** random.uniform(-3, 0, 12), np.linspace(0.05, 1.95, 12)
    return {"eta": eta, "rho": rho, "curvature": share / eta}


CYCLE = Claim(
    id="noise/sam_cycle",
    tier="quick",
    statement="with the gradient along u normalised SAM has no edge: below eta lambda = 2 it is always drawn into the "
    "2-cycle |x| = eta lambda rho/(2 - eta lambda), on which the edge's equation holds identically",
    source=SOURCE,
    comparison=equality(1e-12, "the cycle attracts by |1 - eta lambda| <= .95 a step: 20,000 steps leave rounding"),
    draw=_alone,
    predicted=lambda sample: np.stack(
        [
            np.asarray(
                sam_cycle().numeric("amplitude")(
                    learning_rate=sample["eta"], rho=sample["rho"], curvature=sample["curvature"]
                )
            ),
            np.ones(12),
        ],
        axis=1,
    ),
    measure=_cycles,
)

CLAIMS = [EDGE, CYCLE]
