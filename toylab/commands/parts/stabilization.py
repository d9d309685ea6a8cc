"""`toylab derive --stabilization`: how a rule stabilises itself at its edge, as a record, as text and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FORMULAS = {
    "critical": "k* = eta times the threshold of lambda_max(P^-1 H)",
    "kappa": "kappa, the oscillation's response: log|x| moves by kappa eta y a step, y the excess over the edge",
    "gain": "Q(1), the average's response: y moves by Q(1) eta (alpha - beta x^2/2) a step",
    "lag": "Lambda = Q(1) (1 - q1 + kappa k2/2): orbits spiral outwards where it is positive",
    "frequency": "frequency of small orbits, radians a step",
    "drift": "drift c in dE/dn = c <y^2>, in the pure cubic model",
    "damping_curvature": "curvature along grad S above which orbits are damped",
}
_LONGEST = 60  # characters of a formula in the table; longer ones are given as a number


def record(name: str, theorem: Any, numbers: Mapping[str, float] | None) -> dict[str, Any]:
    """The JSON object of one rule; formulas are strings that `sympy.sympify` reads, None where there is none."""
    import sympy

    result = {
        "rule": name,
        "symbols": {parameter: str(symbol) for parameter, symbol in theorem.arguments.items()},
        **{key: None if getattr(theorem, key) is None else sympy.sstr(getattr(theorem, key)) for key in FORMULAS},
        "assumptions": list(theorem.assumptions),
        "source": theorem.source,
    }
    if numbers is not None:
        values = theorem.at(**numbers)
        fields = {key: getattr(values, key) for key in ("critical", "kappa", "gain", "lag")}
        result["at"] = {"settings": dict(numbers), "threshold": values.threshold(), **fields}
    return result


def lines(name: str, theorem: Any, numbers: Mapping[str, float] | None, pretty: Any) -> Iterator[str]:
    """The theorem as text; ``pretty`` turns an expression into lines."""
    yield f"{name}: {theorem.statement}"
    for key, heading in FORMULAS.items():
        yield from ("", heading)
        value = getattr(theorem, key)
        yield from pretty(value) if value is not None else ["    known at numbers only: use --set"]
    yield from ("", "assumptions", *(f"    {assumption}" for assumption in theorem.assumptions))
    yield from ("", f"source: {theorem.source}")
    if numbers is not None:
        yield from ("", "at " + ", ".join(f"{parameter} = {value:g}" for parameter, value in numbers.items()))
        for key, value in record(name, theorem, numbers)["at"].items():
            if key != "settings":
                yield f"    {key:<9} " + ("none, a complex pair crosses" if value is None else f"{value:.10g}")


def table(rules: Mapping[str, Any]) -> Iterator[str]:
    """All rules as a Markdown table."""
    from theory.self_stabilization.any_rule import stabilizations

    yield "| rule | kappa | Q(1) | Lambda | Lambda/Q(1) at the reference values |"
    yield "|---|---|---|---|---|"
    for name, theorem in stabilizations(rules):
        if isinstance(theorem, Exception):
            yield f"| {name} | {theorem} | | | |"
            continue
        numbers = theorem.at()
        cells = [_cell(getattr(theorem, key), getattr(numbers, key)) for key in ("kappa", "gain", "lag")]
        growth = "" if numbers.lag is None else f"{numbers.lag / numbers.gain:.4g}"
        yield f"| {name} | {' | '.join(cells)} | {growth} |"


def _cell(formula: Any, number: float | None) -> str:
    if formula is not None and len(str(formula)) <= _LONGEST:
        return f"`{formula}`"
    return "" if number is None else f"{number:.4g}"
