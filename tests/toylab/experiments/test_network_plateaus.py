"""Summaries of grids of plateaus, from planted outcomes and from one small sweep; the rows that are kept of them."""

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import toylab
from toylab.claims.networks import table as network_table
from toylab.experiments.network_plateaus import (
    FRESH,
    PlateauGrid,
    Plateaus,
    described,
    numbers,
    plateau_finding,
    plateaus,
    row,
    summary,
    summary_of,
    swept,
)

ROOT = Path(__file__).resolve().parents[3]
KEPT = json.loads((ROOT / "docs" / "plateaus.json").read_text())["rows"]
NAN = float("nan")
GRID = PlateauGrid(
    problem="chebyshev_mlp",
    settings={"degree": 2, "hidden": (3,), "points": 5},
    rule="heavy_ball",
    fixed={"momentum": 0.5},
    learning_rates=(0.5, 1.0),
    seeds=2,
    steps=24,
    every=4,
)


def planted(mean, outcome):
    mean = np.array(mean)
    return Plateaus(np.array(outcome), mean, np.where(np.isnan(mean), NAN, 0.1), 2 * mean, np.zeros(mean.shape, int))


FOUND = planted(
    [[1.0, 1.2], [0.9, NAN], [NAN, NAN], [NAN, NAN]],
    [["settled"] * 2, ["settled", "diverged"], ["never reached"] * 2, ["left", "too short"]],
)


def test_the_sources_of_spread_are_kept_apart():
    of = summary(FOUND)
    assert (of.mean, of.low, of.high) == pytest.approx((3.1 / 3, 0.9, 1.2))
    assert of.in_time == pytest.approx(0.1)
    assert of.over_seeds == pytest.approx(np.std([1.0, 1.2], ddof=1))  # only one learning rate has two seeds
    assert of.over_learning_rates == pytest.approx(np.std([1.1, 0.9], ddof=1))
    assert of.level == pytest.approx(2 * of.mean)
    assert of.counts == {"settled": 3, "never reached": 2, "left": 1, "diverged": 1, "too short": 1}


def test_equal_seeds_leave_only_the_spread_over_learning_rates():
    of = summary(planted([[1.0, 1.0], [1.1, 1.1]], [["settled"] * 2] * 2))
    assert of.over_seeds == 0
    assert of.over_learning_rates == pytest.approx(0.1 / np.sqrt(2))


def test_nothing_settled_is_told_as_counts():
    nothing = summary(planted([[NAN]], [["diverged"]]))
    assert np.isnan([nothing.mean, nothing.in_time, nothing.over_seeds, nothing.over_learning_rates]).all()
    assert described(nothing) == "1 diverged"


def test_a_summary_survives_being_measured():
    assert summary_of(numbers(summary(FOUND))) == summary(FOUND)
    assert "3 settled, 2 never reached, 1 left, 1 diverged, 1 too short" in plateau_finding(
        {"some rule": numbers(summary(FOUND))}
    )


def test_the_smaller_grid_keeps_the_largest_learning_rate():
    small = GRID.smaller()
    assert (small.seeds, small.learning_rates) == (1, (1.0,))
    assert dataclasses.replace(small, seeds=2, learning_rates=GRID.learning_rates) == GRID


def test_labels_tell_what_distinguishes_grids():
    assert GRID.label == "chebyshev_mlp mse, heavy_ball momentum=0.5"


@pytest.fixture(scope="module")
def same():
    """Whether a row is of a grid, as `make plateaus` asks it."""
    return runpy.run_path(str(ROOT / "benchmarks" / "plateaus.py"))["same"]


@pytest.mark.parametrize(
    "other",
    [{"single": True}, {"every": 8}, {"one_by_one": True}, {"steps": 48}, {"seeds": 3}, {"learning_rates": (0.5,)}],
    ids=lambda other: next(iter(other)),
)
def test_a_row_is_of_its_own_grid_alone(same, other):
    kept = json.loads(json.dumps(row(GRID, FOUND, 3.0)))
    changed = dataclasses.replace(GRID, **other)
    assert same(GRID, kept) and not same(changed, kept)
    assert same(changed, json.loads(json.dumps(row(changed, FOUND, 3.0))))


def test_every_grid_has_one_row_that_is_kept_in_their_order(same):
    assert [[same(grid, one) for one in KEPT].index(True) for grid in network_table.GRIDS] == list(range(len(KEPT)))


def test_the_table_tells_rows_apart_and_counts_every_run():
    lines = [[cell.strip() for cell in line.split("|")] for line in network_table.markdown(KEPT).splitlines()]
    names, cells = lines[0], [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    what = [(one["problem, loss"], one["rule"], one["steps"]) for one in cells]
    assert len(set(what)) == len(KEPT)
    assert [one["problem, loss"].endswith("float32") for one in cells] == [one["single"] for one in KEPT]
    counts = next(name for name in names if name.startswith("settled"))
    runs = [one["seeds"] * len(one["learning_rates"]) for one in KEPT]
    assert [sum(map(int, one[counts].split("/"))) for one in cells] == runs


@pytest.mark.slow
def test_a_sweep_is_summarised_as_its_runs_are():
    runs = swept(GRID)
    assert runs.edge_ratio.shape == (2, 2, 12)
    found = plateaus(runs)
    one = toylab.train(
        toylab.problems.chebyshev_mlp(**GRID.settings, seed=FRESH + 1),
        toylab.optimizers.NAMED["heavy_ball"](learning_rate=1.0, momentum=0.5),
        steps=24,
        every=4,
        observe=toylab.observers(edge_ratio=True, sharpness=1),
    )
    # the same program batched and alone, which rounds differently, through 24 steps near the edge
    np.testing.assert_allclose(runs.edge_ratio[1, 1], one.edge_ratio, rtol=1e-6)
    alone = toylab.plateau(one.steps, one.edge_ratio)
    assert found.outcome[1, 1] == alone.outcome
    if alone.outcome == "settled":
        # with no preconditioner the level is eta times the sharpness
        assert found.level[1, 1] / found.mean[1, 1] == pytest.approx(one.sharpness[0, 0] / one.edge_ratio[0], rel=1e-5)
    assert row(GRID, found, 3.0)["seeds"] == 2
