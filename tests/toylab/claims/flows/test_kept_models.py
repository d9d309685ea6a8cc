"""The long claims about models on networks, judged on the comparisons that are kept with them."""

from types import SimpleNamespace

import pytest

from toylab.claims.flows import networks as flow_networks
from toylab.claims.flows import settled as flow_settled
from toylab.claims.flows import table as flow_table
from toylab.claims.runner import run_claim
from toylab.experiments import compared_models as flow_settings
from toylab.models.comparison.errors import Errors

BY_SERIES = {"flows/levels_of_adam"}
"""What is read off the runs themselves, which are not kept."""

CLAIMS = [claim for claim in (*flow_networks.CLAIMS, *flow_settled.CLAIMS) if claim.id not in BY_SERIES]


def errors(record):
    """The errors in a record; those that it is too old for are not known."""
    return Errors(**{name: record.get(name) for name in Errors._fields})


@pytest.fixture
def kept(monkeypatch):
    """Comparisons as they are kept, instead of new ones."""
    records = flow_table.kept()["records"]

    def compared(setting):
        alike = [one for one in records if one["setting"] == flow_table.described(setting)]
        assert len(alike) == 1, f"{len(alike)} records are kept of {setting.label}: make models"
        return SimpleNamespace(
            runs=[SimpleNamespace(name=own["name"], errors=errors(own)) for own in alike[0]["models"]]
        )

    for module in (flow_settings, flow_networks, flow_settled):
        monkeypatch.setattr(module, "compared", compared)
    return records


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_the_verdict_on_what_is_kept_is_the_expected_one(kept, claim):
    result = run_claim(claim, tier="long")
    assert result.verdict in (claim.expected, "measured"), result.finding


@pytest.mark.parametrize(
    "claim", [claim for claim in CLAIMS if claim.kind != "measurement"], ids=lambda claim: claim.id
)
def test_a_moved_prediction_is_refuted_on_what_is_kept(kept, claim):
    assert run_claim(claim, tier="long", sabotage=True).verdict == "refuted"


def test_a_worse_record_is_noticed(kept):
    """Planted: a map that ends where the stable flow does."""
    for record in kept:
        stable = next(own for own in record["models"] if own["name"] == "stable_flow")
        for own in record["models"]:
            if own["name"] == "central_map":
                own["distance"] = stable["distance"]
    assert run_claim(flow_networks.CLOSER, tier="long").verdict == "refuted"
