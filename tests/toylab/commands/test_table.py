"""The table of thresholds in the README is the program's."""

import json
from pathlib import Path

import sympy

from toylab.claims.flows import table as flow_table
from toylab.claims.networks.table import markdown
from toylab.cli import main
from toylab.experiments.compared_models import KEPT
from toylab.optimizers import NAMED

README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_readme_shows_what_the_program_derives(capsys):
    assert main(["derive", "--table"]) == 0
    printed = capsys.readouterr().out.strip()
    shown = README.read_text().partition("<!-- thresholds -->")[2].partition("<!-- /thresholds -->")[0].strip()
    assert shown == printed, "paste the output of `toylab derive --table` into the README"
    assert len(printed.splitlines()) == len(NAMED) + 2
    # and as JSON one object of theorems, which are derived by now
    assert main(["derive", "--table", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert set(records) == set(NAMED)
    eta, beta1 = sympy.symbols("eta beta1")
    assert sympy.simplify(sympy.sympify(records["heavy_ball"]["threshold"]) - 2 * (1 + beta1) / eta) == 0
    # and how the rules stabilise themselves, from the same theorems
    assert main(["derive", "--table", "--stabilization"]) == 0
    printed = capsys.readouterr().out.strip()
    shown = README.read_text().partition("<!-- stabilization -->")[2].partition("<!-- /stabilization -->")[0].strip()
    assert shown == printed, "paste the output of `toylab derive --table --stabilization` into the README"


def test_the_readme_shows_the_long_runs_that_are_kept():
    kept = json.loads((README.parent / "docs" / "plateaus.json").read_text())
    shown = README.read_text().partition("<!-- plateaus -->")[2].partition("<!-- /plateaus -->")[0].strip()
    expected = f"{markdown(kept['rows'])}\n\nRuns of {kept['date']}."
    assert shown == expected, "paste toylab.claims.networks.table.markdown of docs/plateaus.json into the README"
    derived = {row["rule"]: row["threshold"] for row in kept["rows"] if not row["fixed"]}
    assert derived["gd"] == 2.0


def test_the_readme_shows_the_models_that_are_kept():
    kept = flow_table.kept()
    shown = README.read_text().partition("<!-- models -->")[2].partition("<!-- /models -->")[0].strip()
    expected = f"{flow_table.markdown(kept['records'])}\n\nRuns of {kept['date']}."
    assert shown == expected, "paste toylab.claims.flows.table.markdown of what is kept into the README"
    # the settings that were run are those that `make models` would run, not others under their names
    told = [flow_table.described(setting) for setting in KEPT]
    assert all(record["setting"] in told for record in kept["records"])
