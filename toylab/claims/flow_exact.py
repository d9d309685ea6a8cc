"""Central models and the rod flow on exact toys, where what they should say is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from scipy.optimize import fsolve, newton

import theory
from theory.bifurcation import balance
from toylab import problems
from toylab.claims.bifurcation import quartic_loss
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import equality, order, window
from toylab.dynamics.central_map import central_map_steps
from toylab.dynamics.rod_flow import rod_flow_steps
from toylab.gauging import gauge, gauges
from toylab.optimizers import NAMED
from toylab.problems.base import Problem

SOURCE = "toys: Berthier 2026; the central map: here"
ETA = 0.3

# ----------------------------------------------------------------------------------------------------------------
# One eigenvalue: the mean of the 2-cycle

REST = 400
"""Steps after which the central map is at rest to rounding: it relaxes by a half or more in each, both ways."""


class Toys(NamedTuple):
    """Members (n,): the push and the cubic coefficient."""

    eps: np.ndarray
    zeta: np.ndarray


def _toys(random: np.random.Generator, tier: str) -> Toys:
    return Toys(random.uniform(0.002, 0.05, 6), random.uniform(-0.8, 0.8, 6))


def _labelled(x: np.ndarray, y: np.ndarray, variance: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean x": x, "mean y": y, "variance": variance}


def _cycle(sample: Toys) -> dict[str, np.ndarray]:
    """The derived 2-cycle: a root of its cubic, and what follows from it."""
    law = theory.toy_centre()
    cubic, height, square, ripple, near = (
        law.numeric(name) for name in ("cubic", "cycle_y", "amplitude_sq", "ripple", "mean_x")
    )
    found = []
    for eps, zeta in zip(*sample, strict=True):
        given = {"learning_rate": ETA, "zeta": float(zeta), "eps": float(eps)}

        def equation(x: float, given: Any = given) -> float:
            return float(cubic(x=x, **given))

        x = float(newton(equation, float(near(**given)), tol=1e-16))
        a2, per_a = float(square(x=x, **given)), float(ripple(x=x, **given))
        found.append([x, float(height(x=x, **given)), a2 * (1 + per_a**2)])
    return _labelled(*np.array(found).T)


def _rest(sample: Toys) -> dict[str, np.ndarray]:
    """Where the central map comes to rest."""

    def problem(eps: Array, zeta: Array) -> Problem:
        return problems.berthier_one_eigenvalue(eps, zeta, start=(0.0, 2 / ETA))

    path = _mapped(problem, tuple(sample), REST, 1)
    return _labelled(path.params[:, -1, 0], path.params[:, -1, 1], path.variances[:, -1, 0])


class Path(NamedTuple):
    """The central map's mean weights (members, steps, n) and variances (members, steps, K)."""

    params: Any
    variances: Any


def _mapped(problem: Callable[..., Problem], members: tuple[np.ndarray, ...], steps: int, count: int) -> Path:
    """The central map of gradient descent on the problems of all members."""
    rule = optax.sgd(ETA)
    known = gauge(rule, problem(*(jnp.asarray(values[0]) for values in members)).params)

    def one(*numbers: Array) -> Path:
        toy = problem(*numbers)
        kernel = central_map_steps(toy, rule, known, count=count)

        def step(now: Any, _: None) -> tuple[Any, Path]:
            after, said = kernel.step(now)
            return after, Path(said.params, said.variances)

        return lax.scan(step, kernel.init(toy.params), length=steps)[1]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(*(jnp.asarray(values) for values in members)))


CENTRE = Claim(
    id="flows/centre_of_the_cycle",
    tier="quick",
    statement="with one eigenvalue at the edge of a cubic loss the central map rests exactly at the mean of gradient "
    "descent's 2-cycle, with the variance of that cycle, however strong the push",
    source=SOURCE + "; the exact equations of the cycle: theory.toy_centre",
    comparison=equality(1e-8, "solvers stop at 1e-13 of residuals that are proportional to eps, .002 at least"),
    draw=_toys,
    predicted=_cycle,
    measure=_rest,
)

# ----------------------------------------------------------------------------------------------------------------
# Codimension one: drift along the edge

PUSHES = np.array([0.02, 0.01, 0.005, 0.0025])
DRIFTED = 60.0
"""eps x steps: the weights have gone along the circle to where the push points."""


def _starts(random: np.random.Generator, tier: str) -> tuple[float, float]:
    angle = random.uniform(0.8, 1.1)
    return tuple(float(part) for part in (2 / ETA - 3) * np.array([np.cos(angle), np.sin(angle)]))  # ty: ignore


def _one(sample: Any) -> dict[str, float]:
    return {"end": 1.0}


def _drift_errors(sample: tuple[float, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Distances of the central map from gradient descent's midpoint after the drift."""
    steps = int(DRIFTED / PUSHES[-1]) + 2

    def problem(eps: Array) -> Problem:
        return problems.berthier_codimension_one(eps, start=(0.0, *sample))

    @jax.jit
    @jax.vmap
    def descended(eps: Array) -> Array:
        toy = problem(eps)

        def step(w: Array, _: None) -> tuple[Array, Array]:
            return w - ETA * toy.gradient(w), w

        return lax.scan(step, toy.params, length=steps)[1]

    own, mean = np.asarray(descended(jnp.asarray(PUSHES))), _mapped(problem, (PUSHES,), steps, 1).params
    ends = (DRIFTED / PUSHES).astype(int)
    apart = []
    for path, model, end in zip(own, mean, ends, strict=True):
        midpoint = (path[end - 1] + 2 * path[end] + path[end + 1]) / 4
        apart.append(np.linalg.norm(model[end] - midpoint))
    return {"end": (PUSHES, np.array(apart))}


DRIFT = Claim(
    id="flows/drift_along_the_edge",
    tier="default",
    statement="while the weights drift along an edge of codimension one, the central map errs by the first order in "
    "the push at eps x steps = 60",
    source=SOURCE + "; averaging is exact to first order over times 1/eps",
    comparison=order(0.1, "the next order, eps of .02 at most, changes a slope by a few hundredths"),
    draw=_starts,
    predicted=_one,
    errors=_drift_errors,
)

# ----------------------------------------------------------------------------------------------------------------
# Two eigenvalues: fluctuations that persist

PUSH, LONG_RUN, REST_OF_TWO = 0.01, 60_000, 3_000
TWO = (0.0, 0.0, 2 / ETA - 0.05, 2 / ETA - 0.05, 0.0)
FEW = Ceiling(0.03, "a time average of fluctuations that persist, over some hundreds of their periods")


def _pushes(random: np.random.Generator, tier: str) -> np.ndarray:
    return PUSH * random.uniform(0.8, 1.25, 2)


def _named(pushes: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    return {
        f"eps = {eps:.4f}, {name}": value[k]
        for eps, value in zip(pushes, values, strict=True)
        for k, name in enumerate(("larger", "smaller"))
    }


def _said_variances(pushes: np.ndarray) -> dict[str, np.ndarray]:
    def problem(eps: Array) -> Problem:
        return problems.berthier_two_eigenvalues(eps, start=TWO)

    values = _mapped(problem, (pushes,), REST_OF_TWO, 2).variances[:, -1]
    return _named(pushes, np.stack([values * (1 - WITHIN), values * (1 + WITHIN)], axis=-1))


WITHIN = 0.01


def _seen_variances(pushes: np.ndarray) -> dict[str, np.ndarray]:
    """Eigenvalues of the time average of o o^T, o = (w_{t-1} - 2 w_t + w_{t+1})/4."""

    @jax.jit
    @jax.vmap
    def swings(eps: Array) -> Array:
        toy = problems.berthier_two_eigenvalues(eps, start=TWO)

        def step(now: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
            last, w = now
            ahead = w - ETA * toy.gradient(w)
            return (w, ahead), (last - 2 * w + ahead)[:2] / 4

        first = toy.params - ETA * toy.gradient(toy.params)
        return lax.scan(step, (toy.params, first), length=LONG_RUN)[1]

    late = np.asarray(swings(jnp.asarray(pushes)))[:, LONG_RUN // 5 :]
    covariance = np.einsum("nta,ntb->nab", late, late) / late.shape[1]
    return _named(pushes, np.linalg.eigvalsh(covariance)[:, ::-1])


PERSISTING = Claim(
    id="flows/two_eigenvalues",
    tier="default",
    statement="with two eigenvalues at the edge, whose fluctuations never die out, both variances of gradient descent "
    "averaged over time are those of the central map at rest",
    source=SOURCE,
    comparison=window(
        0.0, "the window, one per cent to both sides, is the first order in the push of .01", ceiling=FEW
    ),
    draw=_pushes,
    predicted=_said_variances,
    measure=_seen_variances,
)

# ----------------------------------------------------------------------------------------------------------------
# Quartics: the rod flow


class Quartics(NamedTuple):
    """Members (n,): curvature `a` at the minimum, third and fourth derivative, and hyperparameters that put `a` above
    the edge by some per cent."""

    a: np.ndarray
    c3: np.ndarray
    c4: np.ndarray
    hyper: dict[str, np.ndarray]


BESIDE = 0.01
"""Where runs start: the first displacement is the rod's first half."""

ALONG_THE_ROD = 6_000
"""Steps: the size relaxes by the excess over the edge in each, half a per cent at least, to exp(-30)."""


def _quartics(random: np.random.Generator, tier: str) -> dict[str, Quartics]:
    found, count = {}, 4
    for rule, momentum in (("gd", {}), ("heavy_ball", {"momentum": random.uniform(0.2, 0.7, count)})):
        a, c4 = random.uniform(0.5, 2, count), random.uniform(0.5, 2, count)
        c3 = random.uniform(1.5, 2.2, count) * np.sqrt(a * c4 / 3)  # 3 c3^2 > a c4: the flip is supercritical
        unit = {"learning_rate": np.ones(count), **momentum}
        edge = np.array([theory.edge(NAMED[rule]).at(**_member(unit, i)).threshold for i in range(count)])
        found[rule] = Quartics(
            a, c3, c4, {**unit, "learning_rate": edge / a * (1 + random.uniform(0.005, 0.01, count))}
        )
    return found


def _member(hyper: dict[str, np.ndarray], i: int) -> dict[str, float]:
    return {name: float(values[i]) for name, values in hyper.items()}


def _cycles(sample: dict[str, Quartics]) -> dict[str, np.ndarray]:
    """The mean and the squared amplitude of the exact 2-cycle of each member (n, 2), from its derived equations."""
    odd, even = (balance(quartic_loss).numeric(name) for name in ("odd", "even"))
    found = {}
    for rule, s in sample.items():
        law, rows = theory.edge(NAMED[rule]), []
        for i in range(s.a.size):
            threshold = law.at(**_member(s.hyper, i)).threshold
            jet = {"a": s.a[i], "c3": s.c3[i], "c4": s.c4[i]}

            def equations(point: np.ndarray, jet: Any = jet, threshold: float = threshold) -> list[float]:
                at = {"A": point[0], "B": point[1], **jet}
                return [float(odd(**at)) - threshold, float(even(**at))]

            flat = 6 * (s.a[i] - threshold) * s.a[i] / (3 * s.c3[i] ** 2 - s.a[i] * s.c4[i])  # the search's start
            point = fsolve(equations, [np.sqrt(flat), -s.c3[i] * flat / (2 * s.a[i])], xtol=1e-11)
            rows.append([point[1], point[0] ** 2])
        found[rule] = np.array(rows)
    return found


def _rods(sample: dict[str, Quartics]) -> dict[str, np.ndarray]:
    """The middle and the squared half length of the rod after it has settled."""
    found = {}
    for rule, s in sample.items():
        kind, numbers = gauges(NAMED[rule], s.hyper, jnp.zeros(()))

        def settled(a: Array, c3: Array, c4: Array, hyper: Any, own: Any, rule: str = rule, kind: Any = kind) -> Array:
            toy = problems.quartic(a, c3, c4, start=BESIDE)
            kernel = rod_flow_steps(toy, NAMED[rule](**hyper), (kind, own))

            def step(_: Array, now: Any) -> Any:
                return kernel.step(now)[0]

            end = lax.fori_loop(0, ALONG_THE_ROD, step, kernel.init(toy.params))
            return jnp.stack([end.params, end.half**2])

        found[rule] = np.asarray(jax.jit(jax.vmap(settled))(s.a, s.c3, s.c4, s.hyper, numbers))
    return found


RODS = Claim(
    id="flows/rod_on_quartics",
    tier="default",
    statement="above a supercritical edge the rod flow rests on the optimizer's exact 2-cycle, middle and length, at "
    "finite distance from the edge, with momentum and without",
    source="rod flow: Regis & Chewi (arXiv:2602.01480), with momentum: here; the cycle: theory.balance",
    comparison=equality(1e-7, "the size has relaxed to exp(-30) of itself, and squares are compared"),
    draw=_quartics,
    predicted=_cycles,
    measure=_rods,
)

CLAIMS = [CENTRE, DRIFT, PERSISTING, RODS]
