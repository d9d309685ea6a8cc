"""The table of models: what is still to be run, and how a record reads."""

import json

from toylab.claims.flow_networks import LONG, SHORT
from toylab.claims.flow_table import COLUMNS, described, markdown, missing


def test_a_setting_is_missing_until_a_file_has_it():
    everything = [*SHORT, *LONG]
    kept = json.loads(json.dumps([{"setting": described(setting)} for setting in SHORT]))
    assert missing([]) == everything
    assert missing(kept) == [setting for setting in LONG if setting not in SHORT]


def test_every_model_has_its_line_and_what_it_does_not_say_is_empty():
    errors = dict.fromkeys(COLUMNS, 0.5) | {"variance_error": None}
    record = {
        "setting": described(SHORT[0]),
        "models": [{"name": name, **errors} for name in ("stable_flow", "rod_flow")],
    }
    head, _, first, second = markdown([record]).splitlines()
    assert first.startswith("| gd 0.28, digits_mlp mse, 10, 2400 | stable_flow | 0.5 | 0.5 | 0.5 | 50 % |  | 50 %")
    assert second.startswith("|  | rod_flow |")
    assert head.count("|") == first.count("|") == second.count("|") == len(COLUMNS) + 3
