"""Orbits of period 2 at the edge: normal form and harmonic balance against runs of the rules themselves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from theory.two_cycles import bifurcation as law
from theory.two_cycles.harmonic_balance import balance
from toylab.claims.ceilings import Ceiling
from toylab.claims.claim import Claim
from toylab.claims.comparisons import bracket, equality, order, sign
from toylab.experiments import two_cycles as lab
from toylab.optimizers import NAMED
from toylab.problems.scalar import mean_polynomial, polynomial

SOURCE = (
    "derived by theory.two_cycles.bifurcation from each rule's own code; gradient descent: Chen & Bruna 2022, "
    "Ma et al. 2022"
)

RULES: dict[str, tuple[str, ...]] = {
    "gd": (),
    "heavy_ball": ("momentum",),
    "nesterov": ("momentum",),
    "ema_momentum": ("momentum",),
    "quasi_hyperbolic": ("momentum", "mix"),
    "optimistic_gd": ("alpha", "beta"),
    "adam": ("b1",),
    "nadam": ("b1",),
    "adamw": ("b1", "weight_decay"),
}
"""Rules that are run, and the hyperparameters that are drawn besides the learning rate."""

QUICK = ("gd", "heavy_ball", "adamw")
"""Those that the quick tier runs: each is compiled anew, which takes longer than its runs."""


def quartic_loss(x: Any, a: Any, c3: Any, c4: Any) -> Any:
    """The quartic of the laboratory with its derivatives as arguments, for tracing."""
    return polynomial(x, jnp.stack([a, c3, c4]))


@dataclass(frozen=True)
class Drawn:
    """Members of one rule: hyperparameters, critical curvature (P = 1), c3/f'' and c4/f'', and d."""

    hyper: dict[str, np.ndarray]
    edge: np.ndarray
    ratios: np.ndarray
    d: np.ndarray

    def quartics(self, d: Any = None, c4: Any = None) -> np.ndarray:
        """The derivatives (members, 3) of quartics whose curvature is ``1 + d`` times the critical one."""
        c3, c4 = self.ratios[:, 0], self.ratios[:, 1] if c4 is None else c4
        unit = np.stack([np.ones_like(c3), c3, c4], axis=1)
        return unit * (self.edge * (1 + (self.d if d is None else d)))[:, None]


Sample = dict[str, Drawn]


def _hyper(random: np.random.Generator, rule: str, count: int) -> dict[str, np.ndarray]:
    drawn = {"learning_rate": random.uniform(0.05, 0.5, count)}
    ranges = {"momentum": (0.0, 0.7), "b1": (0.01, 0.7), "mix": (0.3, 0.9), "weight_decay": (0.2, 1.0)}
    ranges |= {"alpha": (0.8, 1.2), "beta": (0.2, 1.0)}
    drawn |= {name: random.uniform(*ranges[name], count) for name in RULES[rule]}
    if rule in ("adam", "nadam", "adamw"):
        drawn["eps"] = np.zeros(count)  # slow leaves are held at 1: then P = 1
    return drawn


def _draw(random: np.random.Generator, rules: Any, count: int, margin: tuple[float, float]) -> Sample:
    """Quartics in units of their own width: 3 c3^2 + |c4| = 1 (f'' = 1), 3 c3^2 - c4 in ± ``margin``."""
    sample = {}
    for rule in rules:
        hyper = _hyper(random, rule, count)
        wanted = random.uniform(*margin, count)
        c3_sq = np.where(wanted > 0, random.uniform(np.abs(wanted) * 0.05, 1, count), (1 + wanted) / 2) / 3
        c3_sq = np.minimum(c3_sq, (1 + wanted) / 6 + 0.5 * np.maximum(wanted, 0) / 3)
        ratios = np.stack([np.sqrt(c3_sq) * random.choice([-1.0, 1.0], count), 3 * c3_sq - wanted], axis=1)
        sample[rule] = Drawn(hyper, lab.edges(rule, hyper), ratios, random.uniform(0.005, 0.02, count))
    return sample


@lru_cache(maxsize=64)
def derived(rule: str) -> law.PeriodTwo:
    """The theorem of a built-in rule on a loss with a symbolic jet."""
    return law.period_two(NAMED[rule])


@lru_cache(maxsize=256)
def _formula(rule: str, name: str) -> Any:
    return derived(rule).numeric(name)


@lru_cache(maxsize=1)
def _balance() -> Any:
    return balance(quartic_loss)


def _number(rule: str, name: str, drawn: Drawn, **more: Any) -> np.ndarray:
    """A formula of the rule's theorem for every member, on its quartic in units f'' = 1."""
    jet = {"a": 1.0, "c3": drawn.ratios[:, 0], "c4": drawn.ratios[:, 1], "c5": 0.0, "c6": 0.0}
    found = _formula(rule, name)(**{**drawn.hyper, **jet, **more})
    return np.broadcast_to(np.asarray(found, float), drawn.edge.shape)


@lru_cache(maxsize=1)
def _solver() -> Any:
    """Newton's method on the exact balance, compiled once: (A, B) (members, 2), unit jets, d, drag -> (A, B)."""
    odd, even = (_balance().numeric(name) for name in ("odd", "even"))

    def residual(point: Any, jet: Any, excess: Any, drag: Any) -> Any:
        given = {"A": point[0], "B": point[1], "a": jet[0], "c3": jet[1], "c4": jet[2]}
        return jnp.stack([(1 + excess) * odd(**given) - 1, (1 + excess) * even(**given) - drag * point[1]])

    def solve(point: Any, *given: Any) -> Any:
        def improve(_: int, point: Any) -> Any:
            return point - jnp.linalg.solve(jax.jacfwd(residual)(point, *given), residual(point, *given))

        return jax.lax.fori_loop(0, 30, improve, point)

    return jax.jit(jax.vmap(solve))


def _predicted_orbit(rule: str, drawn: Drawn, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A and B (members,) from the exact balance, by Newton's method from the expansion in d."""
    start = np.stack([np.sqrt(_number(rule, "amplitude_sq", drawn, d=d)), _number(rule, "centre", drawn, d=d)], axis=1)
    unit = drawn.quartics(np.zeros_like(d)) / drawn.edge[:, None]
    found = np.asarray(_solver()(start, unit, d, _number(rule, "drag", drawn)))
    return np.abs(found[:, 0]), found[:, 1]


# ---------------------------------------------------------------------------------------------------------------
# Which way the flip goes

NEAR, FAR, EXCESS = 1e-4, 2e-2, 1e-7
"""Amplitudes at which runs start, in units of the quartic's width, and |eta/eta* - 1|."""

NOISE = 1e-14
"""Drifts a step are differences of logarithms over 2,000 steps: rounding leaves 1e-18 of them."""


def _criterion(random: np.random.Generator, tier: str) -> Any:
    count = {"quick": 200, "default": 1_000, "long": 10_000}[tier]
    margin = random.uniform(1e-2, 1, count) * random.choice([-1.0, 1.0], count)
    share = random.uniform(0, 1, count)  # c4 = |margin| share - ... : 3 c3^2 + |c4| = 1 in units f'' = 1
    c3_sq, c4 = (1 + margin) / 6, (1 - margin) / 2
    both = share < 0.5  # the other quartics have a negative c4: always supercritical
    c3_sq, c4 = np.where(both, c3_sq, share / 3), np.where(both, c4, share - 1)
    c3 = np.sqrt(c3_sq) * random.choice([-1.0, 1.0], count)
    return {"a": random.uniform(0.5, 2, count), "c3": c3, "c4": c4, "width": random.uniform(0.3, 3, count)}


def _outcomes(sample: Any) -> dict[str, np.ndarray]:
    """Whether the amplitude grows (1), shrinks (-1) or neither (0)."""
    a, width = sample["a"], sample["width"]
    data = a[:, None] * np.stack([np.ones_like(a), sample["c3"] / width, sample["c4"] / width**2], axis=1)
    out = {}
    for name, excess in (("above", EXCESS), ("below", -EXCESS)):
        hyper = {"learning_rate": 2 / a * (1 + excess)}
        inner, outer = (
            np.asarray(lab.drift("gd", mean_polynomial, (0, 2000), hyper, data, size * width)) for size in (NEAR, FAR)
        )
        out[f"{name} the edge, started near the minimum"] = np.where(np.abs(inner) > NOISE, np.sign(inner), 0)
        out[f"{name} the edge, started away from it"] = np.where(np.abs(outer) > NOISE, np.sign(outer), 0)
    return out


def _signs(sample: Any) -> dict[str, np.ndarray]:
    criterion = law.period_two(NAMED["gd"]).numeric("criterion")
    side = np.sign(np.asarray(criterion(a=1.0, c3=sample["c3"], c4=sample["c4"])))
    one = np.ones_like(side)
    return {
        "above the edge, started near the minimum": one,
        "above the edge, started away from it": -side,
        "below the edge, started near the minimum": -one,
        "below the edge, started away from it": -side,
    }


CRITERION = Claim(
    id="bifurcation/flip_criterion",
    tier="quick",
    statement="on random quartics gradient descent flips supercritically where 3 c3^2 > a c4: just above the edge runs "
    "grow from within and shrink from without (a stable small orbit of period 2 lies between), just below it all "
    "shrink; subcritically where 3 c3^2 < a c4: above the edge all grow, below it only runs from without (an unstable "
    "orbit bounds the basin)",
    source=SOURCE,
    comparison=sign(
        0.0,
        "an outcome is +1 or -1 as it stands; drifts below 1e-14 a step count as none",
        scale=1.0,
        ceiling=Ceiling(
            1.01,
            "outcomes are yes or no, over all quartics at least 1e-2 of their scale from the critical one; how finely "
            "the boundary is located says bifurcation/critical_fourth_derivative",
        ),
    ),
    draw=_criterion,
    predicted=_signs,
    measure=_outcomes,
)


def _skewed(random: np.random.Generator, tier: str) -> Sample:
    count = {"quick": 5, "default": 40, "long": 400}[tier]
    sample = _draw(random, QUICK if tier == "quick" else RULES, count, (0.2, 0.9))
    for drawn in sample.values():
        drawn.ratios[:, 0] = random.uniform(0.5, 1.5, count) * random.choice([-1.0, 1.0], count)
        drawn.d[:] = 0.0
    return sample


def _critical_fourth(sample: Sample) -> dict[str, np.ndarray]:
    """c4/f'' at which the amplitude of a small oscillation neither grows nor shrinks, at the edge itself."""
    out = {}
    for rule, drawn in sample.items():
        c3_sq = drawn.ratios[:, 0] ** 2

        def grows(c4: np.ndarray, rule: str = rule, drawn: Drawn = drawn, c3_sq: Any = c3_sq) -> Any:
            start = 1e-4 / np.sqrt(c3_sq)
            return lab.drift(rule, mean_polynomial, (200, 1600), drawn.hyper, drawn.quartics(c4=c4), start) > 0

        out[rule] = lab.bisected(0 * c3_sq, 10 * c3_sq, grows, 30)
    return out


def _critical_fourth_derived(sample: Sample) -> dict[str, np.ndarray]:
    """The criterion is linear in c4: its zero."""
    out = {}
    for rule, drawn in sample.items():
        without = Drawn(drawn.hyper, drawn.edge, drawn.ratios * np.array([1.0, 0.0]), drawn.d)
        level = _number(rule, "criterion", without)
        without.ratios[:, 1] = 1
        out[rule] = level / (level - _number(rule, "criterion", without))
    return out


LOCATED = Claim(
    id="bifurcation/critical_fourth_derivative",
    tier="quick",
    statement="the flip turns from super- to subcritical at a c4 = 3 c3^2/(1 - rho), rho = k(1)/k*: for every rule at "
    "3 c3^2 alike, except that decoupled weight decay moves it down",
    source=SOURCE,
    comparison=equality(
        2e-6,
        "oscillations of amplitude 1e-4 f''/c3 are run: the next order of the normal form moves c4 by 1e-8 of O(10)",
    ),
    draw=_skewed,
    predicted=_critical_fourth_derived,
    measure=_critical_fourth,
)

# ---------------------------------------------------------------------------------------------------------------
# The orbit itself, and how it is approached


def _super(random: np.random.Generator, tier: str) -> Sample:
    return _draw(
        random, QUICK if tier == "quick" else RULES, {"quick": 4, "default": 30, "long": 300}[tier], (0.3, 1.0)
    )


def _settled(sample: Sample) -> dict[str, Any]:
    return {
        rule: lab.settled(rule, mean_polynomial, (6_000,), s.hyper, s.quartics(), np.full(len(s.d), 0.1))
        for rule, s in sample.items()
    }


ORBIT = Claim(
    id="bifurcation/orbit_knows_only_k",
    tier="quick",
    statement="every rule settles on the 2-cycle of harmonic balance, whose amplitude and mean depend on the rule only "
    "through k* and k(1) (on no momentum at all, at equal eta f''/(P k*)); at finite distance from the edge",
    source=SOURCE,
    comparison=equality(
        1e-9,
        "the approach fades like (1 - 2 growth d)^n, to nothing after 6,000 steps at growth d >= 1e-2; what is left is "
        "rounding, in units of the quartic's width",
        scale=1.0,
    ),
    draw=_super,
    predicted=lambda sample: {rule: np.stack(_predicted_orbit(rule, s, s.d), axis=1) for rule, s in sample.items()},
    measure=lambda sample: {rule: np.stack(found[:2], axis=1) for rule, found in _settled(sample).items()},
)


def _multiplier_polynomials(sample: Sample) -> dict[str, np.ndarray]:
    out = {}
    for rule, s in sample.items():
        amplitude, mean = _predicted_orbit(rule, s, s.d)
        theorem, jet = derived(rule), s.quartics(np.zeros_like(s.d)) / s.edge[:, None]
        gain = _number(rule, "critical_gain", s) * (1 + s.d)
        curvature = _balance().numeric("curvature")
        gains = {
            name: gain * curvature(x=mean + side * amplitude, a=jet[:, 0], c3=jet[:, 1], c4=jet[:, 2])
            for name, side in (("k_plus", 1), ("k_minus", -1))
        }
        out[rule] = theorem.polynomial_at(**s.hyper, **gains)
    return out


FLOQUET = Claim(
    id="bifurcation/multipliers_of_the_orbit",
    tier="quick",
    statement="the multipliers of two steps along the 2-cycle are the roots of [k(z) - m][k(-z) - m] = r^2 in Z = z^2, "
    "m and r the mean and half difference of eta P^-1 f'' at its two points",
    source=SOURCE,
    comparison=equality(
        1e-8,
        "coefficients of the characteristic polynomial of the autodiff Jacobian of two real steps, of size 1, on an "
        "orbit that is known to 1e-12",
        scale=1.0,
    ),
    draw=_super,
    predicted=_multiplier_polynomials,
    measure=lambda sample: {rule: lab.polynomials(found[2]) for rule, found in _settled(sample).items()},
)

# ---------------------------------------------------------------------------------------------------------------
# The laws in d

LADDER = 0.004 / np.arange(1, 8)


def _small(random: np.random.Generator, tier: str) -> Sample:
    """Memories up to 0.35: beyond, the critical multiplier soon meets another, where its series in d ends."""
    rules = ("gd", "heavy_ball") if tier == "quick" else ("gd", "heavy_ball", "nesterov", "adamw")
    sample = _draw(random, rules, {"quick": 3, "default": 10, "long": 50}[tier], (0.4, 1.0))
    for rule, drawn in sample.items():
        halved = {name: v / 2 if name in ("momentum", "b1") else v for name, v in drawn.hyper.items()}
        sample[rule] = Drawn(halved, lab.edges(rule, halved), drawn.ratios, drawn.d)
    return sample


def _ladder(sample: Sample) -> dict[str, np.ndarray]:
    """Members x (A^2, B, 1 - Z) x LADDER, Z the multiplier of two steps nearest to 1."""
    out = {}
    for rule, s in sample.items():
        rows = []
        for d in LADDER:
            data, start = s.quartics(np.full(len(s.d), d)), np.full(len(s.d), 0.1)
            size, mean, jacobian = map(np.asarray, lab.closed(rule, mean_polynomial, (3_000,), s.hyper, data, start))
            roots = np.linalg.eigvals(jacobian)
            nearest = np.take_along_axis(roots, np.argmin(np.abs(1 - roots), axis=1)[:, None], axis=1)[:, 0]
            rows.append(np.stack([size**2, mean, 1 - nearest.real], axis=1))
        out[rule] = np.stack(rows, axis=-1)
    return out


def _coefficients(sample: Sample, power: int) -> dict[str, np.ndarray]:
    """The coefficient of d^power in each, of the polynomial through all of `LADDER`."""
    vandermonde = np.vander(LADDER, increasing=True)
    return {
        rule: np.linalg.solve(vandermonde, (rows / LADDER)[..., None])[..., power - 1, 0]
        for rule, rows in _ladder(sample).items()
    }


def _laws(sample: Sample, which: int) -> dict[str, np.ndarray]:
    names = (f"amplitude_sq_{which}", f"centre_{which}", f"multiplier_{which}")
    return {
        rule: np.stack([_number(rule, name, s) * (-1 if name.startswith("mult") else 1) for name in names], axis=1)
        for rule, s in sample.items()
    }


SLOPE = Claim(
    id="bifurcation/amplitude_order",
    tier="quick",
    statement="amplitude^2, the shift of the mean and the rate of approach of the 2-cycle are proportional to d",
    source=SOURCE,
    comparison=order(0.05, "over a factor 7 in d, at d <= 0.004, the next order bends the slope by some percent"),
    draw=_small,
    predicted=lambda sample: 1.0,
    errors=lambda sample: {rule: (LADDER, np.abs(rows)) for rule, rows in _ladder(sample).items()},
)

CONSTANTS = Claim(
    id="bifurcation/amplitude_constant",
    tier="quick",
    statement="amplitude^2 = 6 d a^2/(3 c3^2/(1 - rho) - a c4), the mean moves with the derived constant, and the "
    "multiplier of two steps leaves 1 as -4 growth d with growth = -k*/k'(-1)",
    source=SOURCE,
    comparison=equality(
        5e-6, "extrapolated through seven d <= 0.004: the remainder is (0.004)^7 times coefficients that grow like 30^n"
    ),
    draw=_small,
    predicted=lambda sample: _laws(sample, 1),
    measure=lambda sample: _coefficients(sample, 1),
)

SECOND = Claim(
    id="bifurcation/second_order_constants",
    tier="quick",
    statement="the next coefficients, of d^2 in amplitude^2, in the mean and in the multiplier, are those derived",
    source=SOURCE,
    comparison=bracket(
        1e-3,
        "extrapolated through seven d <= 0.004; one power of d is lost against the first coefficient",
        ceiling=Ceiling(3e-3, "a second difference of orbits at d of some 1e-3"),
        scale=100.0,
    ),
    draw=_small,
    predicted=lambda sample: _laws(sample, 2),
    measure=lambda sample: {rule: np.stack([c, c], axis=-1) for rule, c in _coefficients(sample, 2).items()},
)

# ---------------------------------------------------------------------------------------------------------------
# Subcritical: the unstable orbit bounds the basin


def _sub(random: np.random.Generator, tier: str) -> Sample:
    sample = _draw(random, ("gd",), {"quick": 10, "default": 60, "long": 600}[tier], (-0.9, -0.3))
    for drawn in sample.values():
        drawn.d[:] = -random.uniform(0.01, 0.05, len(drawn.d))
    return sample


def _boundaries(sample: Sample) -> np.ndarray:
    s = sample["gd"]
    sides = []
    for side in (1.0, -1.0):

        def leaves(size: np.ndarray, side: float = side) -> np.ndarray:
            return ~np.asarray(lab.stays("gd", mean_polynomial, (2_000,), s.hyper, s.quartics(), side * size))

        sides.append(side * lab.bisected(np.zeros_like(s.d), np.full(len(s.d), 4.0), leaves, 40))
    return np.stack(sides, axis=1)


def _unstable(sample: Sample) -> np.ndarray:
    amplitude, mean = _predicted_orbit("gd", sample["gd"], sample["gd"].d)
    return np.stack([mean + amplitude, mean - amplitude], axis=1)


BASIN = Claim(
    id="bifurcation/unstable_orbit_bounds_the_basin",
    tier="quick",
    statement="below a subcritical flip the basin of the minimum ends exactly at the two points of the unstable "
    "2-cycle of the balance",
    source=SOURCE,
    comparison=equality(
        1e-7, "start points are bisected to 1e-12, and a run next to the orbit leaves it in 2,000 steps"
    ),
    draw=_sub,
    predicted=_unstable,
    measure=_boundaries,
)

# ---------------------------------------------------------------------------------------------------------------
# Even losses: the 2-cycle of every rule ends at the same place


def _even(random: np.random.Generator, tier: str) -> Sample:
    rules = tuple(rule for rule in RULES if rule != "adamw")  # with decay k(1) is not zero
    sample = _draw(random, rules, {"quick": 3, "default": 20, "long": 200}[tier], (1.0, 1.0))
    for drawn in sample.values():
        drawn.ratios[:] = np.array([0.0, -1.0])
    return sample


def _where_symmetry_breaks(sample: Sample) -> dict[str, np.ndarray]:
    out = {}
    for rule, s in sample.items():

        def unstable(d: np.ndarray, rule: str = rule, s: Drawn = s) -> np.ndarray:
            start = np.full(len(d), 1.5)
            one = np.asarray(lab.symmetric_growth(rule, mean_polynomial, (), s.hyper, s.quartics(d), start))
            return np.abs(np.linalg.eigvals(one)).max(axis=1) > 1 + 1e-10

        out[rule] = lab.bisected(np.full(len(s.d), 0.3), np.full(len(s.d), 0.8), unstable, 28)
    return out


def _symmetry_derived(sample: Sample) -> dict[str, np.ndarray]:
    """The first d > 0 at which the multiplier polynomial at the balance's orbit has a root 1, by bisection."""
    out = {}
    for rule, s in sample.items():
        theorem = derived(rule)

        def at_one(d: np.ndarray, rule: str = rule, s: Drawn = s, theorem: Any = theorem) -> np.ndarray:
            amplitude, mean = _predicted_orbit(rule, s, d)
            curvature = _balance().numeric("curvature")(x=mean + amplitude, a=1.0, c3=0.0, c4=-1.0)
            gain = _number(rule, "critical_gain", s) * (1 + d) * np.asarray(curvature)
            rows = theorem.polynomial_at(k_plus=gain, k_minus=gain, **s.hyper)
            return np.array([np.abs(np.roots(row)).max() > 1 + 1e-10 for row in rows])

        out[rule] = lab.bisected(np.full(len(s.d), 0.3), np.full(len(s.d), 0.8), at_one, 28)
    return out


SYMMETRY = Claim(
    id="bifurcation/symmetric_orbit_ends_at_half",
    tier="default",
    statement="on an even quartic the symmetric 2-cycle of every rule without decay is stable up to d = 1/2, three "
    "halves of its edge, whatever its filter",
    source=SOURCE,
    comparison=equality(1e-6, "instability is called above 1e-10, multipliers move with d at a rate of order one"),
    draw=_even,
    predicted=_symmetry_derived,
    measure=_where_symmetry_breaks,
)

CLAIMS = [CRITERION, LOCATED, ORBIT, FLOQUET, SLOPE, CONSTANTS, SECOND, BASIN, SYMMETRY]
