"""Verdicts: confirmed only what would have been noticed if wrong, and a claim that breaks does not stop the
others.
"""

import dataclasses
import json

import numpy as np
import pytest

from toylab.claims import (
    Ceiling,
    Claim,
    ClaimError,
    as_expected,
    at_most,
    bracket,
    equality,
    measurement,
    order,
    run_claim,
    run_claims,
    sign,
    statistical,
    window,
)

KEYS = [
    "id", "kind", "statement", "source", "predicted", "measured", "tolerance", "tolerance_reason",
    "resolution", "expected", "verdict", "finding", "seconds", "tier",
]  # fmt: skip
STATED = Ceiling(0.5, "stated by the test")


def claim(comparison=None, predicted=2.0, measured=2.0, **fields):
    """A claim that predicts and measures constants, or calls functions of the sample."""

    def constant(value):
        return value if callable(value) else lambda sample: value

    comparison = equality(1e-6, "planted") if comparison is None else comparison
    given = {"id": "fake/claim", "statement": "two is two", "source": "arithmetic", "tier": "quick"} | fields
    predicts = None if comparison.kind == "measurement" else constant(predicted)
    return Claim(comparison=comparison, predicted=predicts, measure=constant(measured), **given)


def run(one, **options):
    return run_claim(one, **{"tier": "quick"} | options)


ONE_OF_EACH = [
    claim(measured=2.0000001, id="fake/equality"),
    claim(order(0.1, "planted"), measured=2.05, id="fake/order"),
    claim(at_most(0.0, "none", ceiling=STATED), measured=[1.9, 1.5], id="fake/inequality"),
    claim(sign(0.0, "none", ceiling=STATED, scale=1.0), predicted=-1, measured=-0.2, id="fake/sign"),
    claim(window(0.0, "none", ceiling=STATED), predicted=[0.9, 1.1], measured=[0.95, 1.05], id="fake/window"),
    claim(bracket(0.0, "none", ceiling=STATED), measured=[1.9, 2.1], id="fake/bracket"),
    claim(statistical(1e-3, "planted", ceiling=STATED), measured=[1.99, 2.0, 2.02, 1.98], id="fake/statistical"),
]


@pytest.mark.parametrize("one", ONE_OF_EACH, ids=lambda one: one.id)
def test_every_kind_confirms_what_is_true_and_sabotage_refutes_it(one):
    honest, moved = run(one), run(one, sabotage=True)
    assert (honest.verdict, moved.verdict) == ("confirmed", "refuted"), honest.judgement
    assert as_expected(honest.to_json())
    assert as_expected(moved.to_json(), sabotage=True)
    assert moved.to_json()["predicted"] == honest.to_json()["predicted"]


@pytest.mark.parametrize("one", ONE_OF_EACH, ids=lambda one: one.id)
def test_a_comparison_that_cannot_fail_is_inconclusive_and_survives_no_sabotage_check(one):
    blind = dataclasses.replace(one.comparison, agrees=lambda p, m: np.ones(len(p), bool))
    blind_claim = dataclasses.replace(one, comparison=blind)
    assert run(blind_claim).verdict == "inconclusive"
    assert run(blind_claim).judgement.resolution is None
    assert not as_expected(run(blind_claim, sabotage=True).to_json(), sabotage=True)


def test_a_resolution_above_the_ceiling_is_inconclusive_and_says_so():
    result = run(claim(at_most(0.0, "none", ceiling=Ceiling(0.1, "a tight bound")), measured=1.0))
    assert result.verdict == "inconclusive"
    assert result.judgement.resolution == pytest.approx(0.5)
    assert "ceiling 0.1: a tight bound" in result.finding


def test_one_member_in_a_thousand_refutes_and_is_named():
    measured = np.full((10, 100), 2.0)
    measured[7, 31] = 2.1
    result = run(claim(predicted={"adam": measured * 0 + 2, "sgd": 1.0}, measured={"sgd": 1.0, "adam": measured}))
    assert result.verdict == "refuted"
    assert result.judgement.members == 1001
    assert "adam[7,31] predicted 2, measured 2.1" in result.finding


def test_the_resolution_is_what_every_member_would_notice():
    result = run(claim(order(0.1, "planted"), predicted=[2.0, 3.0], measured=[2.0, 3.05]))
    assert result.judgement.resolution == pytest.approx(0.15)


def test_sabotage_is_not_satisfied_by_one_member():
    tight_and_blind = dataclasses.replace(
        equality(1e-6, "planted"), agrees=lambda p, m: (np.arange(len(p)) == 0) | (np.abs(p - m)[:, 0] < 1e-6)
    )
    one = claim(tight_and_blind, predicted=[1.0, 2.0], measured=[1.0, 2.0])
    assert run(one, sabotage=True).verdict == "inconclusive"


def test_one_prediction_serves_every_label():
    assert run(claim(predicted=1.0, measured={"adam": [1.0, 1.0], "rmsprop": 1.0})).verdict == "confirmed"


def test_a_measurement_is_never_confirmed_and_shows_its_finding():
    one = claim(measurement(), measured=[0.9, 1.1], finding=lambda m: f"mean {m[''].mean():.2f}")
    for sabotage in (False, True):
        result = run(one, sabotage=sabotage)
        assert (result.verdict, result.finding) == ("measured", "mean 1.00")
        assert as_expected(result.to_json(), sabotage=sabotage)
        assert result.to_json()["predicted"] is None


def test_an_understood_refutation_is_expected():
    one = claim(measured=3.0, expected="refuted", finding="momentum lags")
    assert run(one).verdict == "refuted"
    assert run(one).finding == "momentum lags"
    assert as_expected(run(one).to_json())
    assert not as_expected(run(dataclasses.replace(one, measure=lambda sample: 2.0)).to_json())
    assert as_expected(run(one, sabotage=True).to_json(), sabotage=True)


def raises(sample):
    raise ZeroDivisionError("first line\nsecond line")


@pytest.mark.parametrize(
    "broken",
    [
        claim(measured=raises),
        claim(predicted=raises),
        claim(draw=lambda random, tier: raises(None)),
        claim(measured={"a": 1.0}, predicted={"b": 1.0}),
        claim(measured=[1.0, 2.0], predicted=[1.0]),
        claim(measured=1j),
        claim(measured=[]),
        claim(measured="two"),
        claim(predicted=float("nan")),
        claim(predicted=0.0, measured=0.0),
        claim(measurement(), finding=lambda measured: raises(None)),
    ],
)
def test_a_claim_that_breaks_is_an_error_of_one_line_and_the_next_one_runs(broken):
    first, second = run_claims([broken, claim()], tier="quick")
    assert (first.verdict, second.verdict) == ("error", "confirmed")
    assert first.finding
    assert "\n" not in first.finding
    assert not as_expected(first.to_json())
    assert not as_expected(run(broken, sabotage=True).to_json(), sabotage=True)
    json.dumps(first.to_json(), allow_nan=False)


def test_an_interrupt_is_not_an_error_of_the_claim():
    def interrupted(sample):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(claim(measured=interrupted))


def test_neither_side_sees_what_the_other_does_to_the_sample():
    def spoil(sample):
        sample["x"][:] = 7.0
        return 2.0

    def look(sample):
        return sample["x"][0]

    inputs = {"draw": lambda random, tier: {"x": np.array([2.0])}}
    assert run(claim(predicted=look, measured=spoil, **inputs)).verdict == "confirmed"
    assert run(claim(predicted=spoil, measured=look, **inputs)).verdict == "confirmed"


def test_what_is_drawn_depends_on_seed_and_id_alone():
    def drawn(seed, name):
        one = claim(
            measurement(),
            measured=lambda sample: sample,
            draw=lambda random, tier: random.normal(size=3),
            id=name,
        )
        return run(one, seed=seed).to_json()["measured"]

    assert drawn(0, "fake/a") == drawn(0, "fake/a")
    assert drawn(0, "fake/a") != drawn(1, "fake/a")
    assert drawn(0, "fake/a") != drawn(0, "fake/b")


def test_the_tier_that_runs_reaches_the_draw():
    one = claim(measurement(), measured=lambda sample: sample, draw=lambda random, tier: {"quick": 1, "long": 9}[tier])
    assert [run(one, tier=tier).to_json()["measured"] for tier in ("quick", "long")] == [1, 9]


def test_a_record_has_exactly_the_agreed_keys_and_is_strict_json():
    record = run(claim(measurement(), measured={"a": [1.0, np.nan], "b": np.inf})).to_json()
    assert list(record) == KEYS
    assert json.loads(json.dumps(record, allow_nan=False))["measured"] == {"a": [1.0, "nan"], "b": "inf"}


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "nameless"},
        {"id": "Edge/Threshold"},
        {"tier": "fast"},
        {"statement": " "},
        {"source": ""},
        {"expected": "measured"},
        {"expected": "refuted"},
        {"comparison": measurement(), "expected": "refuted", "finding": "no"},
    ],
)
def test_a_claim_that_is_wrongly_declared_is_refused(fields):
    with pytest.raises(ClaimError):
        claim(**fields)


@pytest.mark.parametrize("comparison", [measurement(), equality(1e-6, "planted")], ids=lambda one: one.kind)
def test_a_measurement_has_no_prediction_and_everything_else_one(comparison):
    predicted = (lambda sample: 1.0) if comparison.kind == "measurement" else None
    with pytest.raises(ClaimError, match="predict"):
        Claim(
            id="fake/claim",
            statement="s",
            source="s",
            tier="quick",
            comparison=comparison,
            predicted=predicted,
            measure=float,
        )
