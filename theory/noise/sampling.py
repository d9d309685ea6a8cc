"""How far the mean of a mini-batch strays: its variance under both ways of drawing a batch, by counting batches."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations, product

import sympy as sp

from theory.theorem import Theorem

n = sp.Symbol("n", integer=True, positive=True)
B = sp.Symbol("B", integer=True, positive=True)
spread = sp.Symbol("s", positive=True)
mean = sp.Symbol("a", real=True)


@lru_cache
def batch_variance() -> Theorem:
    """Variance of the mean of B out of n numbers of mean a and *population* variance s^2 (mean of (a_i - a)^2).

    ``without_replacement``: every subset of size B equally likely, drawn afresh at every step (not epochs of a
    shuffled order); ``with_replacement``: B independent draws.  Derived from the number of batches that contain one
    given example and two given examples, and checked against the enumeration of all batches of three symbols.
    Wu, Ma & E, NeurIPS 2018, give the same factor (n - B)/(B (n - 1)).
    """
    batches = sp.binomial(n, B)
    one = _count(sp.binomial(n - 1, B - 1) / batches)  # the share of batches that hold a given example
    two = _count(sp.binomial(n - 2, B - 2) / batches)  # ... and two given examples
    squares, products = n * (spread**2 + mean**2), n**2 * mean**2 - n * (spread**2 + mean**2)
    without = sp.factor((one * squares + two * products) / B**2 - mean**2)
    independent = sp.factor((B * squares / n + B * (B - 1) * mean**2) / B**2 - mean**2)
    expressions = {"without_replacement": without, "with_replacement": independent}
    _check(expressions)
    return Theorem(
        statement="the mean of a batch has variance s^2 (n - B)/(B (n - 1)) if its examples differ, s^2/B if they are "
        "drawn independently",
        assumptions=("every batch is equally likely and drawn afresh at every step", "1 <= B <= n, n >= 2"),
        source="counting batches; Wu, Ma & E, NeurIPS 2018",
        expressions=expressions,
        arguments={"examples": n, "batch": B, "spread": spread},
    )


def _count(ratio: sp.Expr) -> sp.Expr:
    return sp.factor(sp.gammasimp(ratio.rewrite(sp.gamma)))


def _check(expressions: dict[str, sp.Expr]) -> None:
    """All batches of three symbols: what the formulas say, exactly."""
    numbers = sp.symbols("x0:3", real=True)
    average = sp.Add(*numbers) / 3
    variance = sp.Add(*((x - average) ** 2 for x in numbers)) / 3
    for size in (1, 2, 3):
        drawn = {
            "without_replacement": list(combinations(numbers, size)),
            "with_replacement": list(product(numbers, repeat=size)),
        }
        for name, batches in drawn.items():
            enumerated = sp.Add(*((sp.Add(*batch) / size - average) ** 2 for batch in batches)) / len(batches)
            formula = expressions[name].subs({n: 3, B: size}).subs(spread**2, variance)
            if sp.expand(enumerated - formula) != 0:
                raise AssertionError(f"{name} disagrees with the enumeration of batches of {size} out of 3")
