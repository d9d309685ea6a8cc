"""Theory meets experiment. A module in a topic's folder declares `CLAIMS = [Claim(...), ...]` and takes part in `toylab
verify`; a new folder is a new topic.

A claim is a statement, a prediction, an experiment that cannot see the prediction, and a comparison; it is
run by `run_claims`, which also finds the smallest error of the prediction that the experiment would have
noticed.
"""

from toylab.claims.ceilings import ASYMPTOTIC_ORDER, EXACT, NETWORK_PLATEAU, Ceiling
from toylab.claims.claim import TIERS, VERDICTS, Claim
from toylab.claims.comparisons import (
    Comparison,
    at_least,
    at_most,
    bracket,
    equality,
    measurement,
    observed_order,
    order,
    sign,
    statistical,
    window,
)
from toylab.claims.labelled import ClaimError
from toylab.claims.registry import UnknownClaim, discovered, selected
from toylab.claims.runner import Judgement, Result, as_expected, judge, run_claim, run_claims

__all__ = [
    "ASYMPTOTIC_ORDER",
    "EXACT",
    "NETWORK_PLATEAU",
    "TIERS",
    "VERDICTS",
    "Ceiling",
    "Claim",
    "ClaimError",
    "Comparison",
    "Judgement",
    "Result",
    "UnknownClaim",
    "as_expected",
    "at_least",
    "at_most",
    "bracket",
    "discovered",
    "equality",
    "judge",
    "measurement",
    "observed_order",
    "order",
    "run_claim",
    "run_claims",
    "selected",
    "sign",
    "statistical",
    "window",
]
