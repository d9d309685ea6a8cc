"""The table of models: what is still to be run, and how a record reads."""

import json

from toylab.claims.flows.table import COLUMNS, described, markdown, missing
from toylab.experiments.compared_models import GRID, KEPT


def test_a_setting_is_missing_until_a_file_has_it():
    first, rest = KEPT[: len(GRID)], KEPT[len(GRID) :]
    kept = json.loads(json.dumps([{"setting": described(setting)} for setting in first]))
    assert missing([]) == list(KEPT)
    assert missing(kept) == list(rest)


def record(seed, value):
    errors = dict.fromkeys(COLUMNS, value) | {"variance_error": None, "unconverged": 0.0}
    return {
        "setting": described(GRID[0]) | {"seed": seed},
        "models": [{"name": name, **errors} for name in ("stable_flow", "rod_flow")],
    }


def test_every_model_has_its_line_and_what_it_does_not_say_is_empty():
    head, _, first, second = markdown([record(10, 0.5), record(11, 0.5)]).splitlines()
    assert first.startswith(
        "| gd 0.28, digits_mlp, mse, 3000 from 0 (2) | stable_flow | 0.5 | 0.5 | 0.5 | 50 % |  | 50 % | 50 %"
    )
    assert second.startswith("|  | rod_flow |")
    assert head.count("|") == first.count("|") == second.count("|") == len(COLUMNS) + 3


def test_seeds_are_told_by_mean_lowest_and_highest():
    line = markdown([record(10, 0.5), record(11, 0.25)]).splitlines()[2]
    assert "| 0.38 (0.25 to 0.5) |" in line and "| 38 % (25 to 50) |" in line
    # one seed that does not say leaves no mean over seeds
    silent = record(11, 0.25)
    silent["models"][0]["distance"] = None
    del silent["models"][0]["variance_error"]  # of a record that is older than this number
    assert "| stable_flow |  | 0.38 (" in markdown([record(10, 0.5), silent]).splitlines()[2]


def test_a_model_that_did_not_converge_says_so():
    lost = record(11, 0.25)
    lost["models"][1]["unconverged"] = 0.9
    _, _, first, second = markdown([record(10, 0.5), lost]).splitlines()
    assert "| stable_flow |" in first and "| rod_flow (unconverged in 45% of the steps) |" in second
