"""The long runs behind two tables of the documentation are kept as they would be run."""

import json
from pathlib import Path

from toylab.claims.flows import table as flow_table
from toylab.experiments.compared_models import KEPT

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_thresholds_of_kept_plateaus_are_the_rules_own():
    kept = json.loads((DOCS / "plateaus.json").read_text())
    derived = {row["rule"]: row["threshold"] for row in kept["rows"] if not row["fixed"]}
    assert derived["gd"] == 2.0


def test_the_settings_of_kept_comparisons_are_those_that_would_be_run():
    # not others under their names
    told = [flow_table.described(setting) for setting in KEPT]
    assert all(record["setting"] in told for record in flow_table.kept()["records"])
