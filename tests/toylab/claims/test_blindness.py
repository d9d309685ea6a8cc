"""No experiment of the laboratory can reach its prediction: found by following what its code refers to."""

import functools
import types

import pytest

from toylab.claims import Claim, discovered, equality


def reached(start):
    """Every function and module that `start` refers to, through globals, closures, defaults, partials, wrappers, and
    methods and properties of the classes that its module knows, by their names.

    Functions of other packages are not entered: what theory predicts is only reached through the module
    `theory` or a function of a claim module.
    """
    seen, waiting = {}, [start]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, functools.partial):
            waiting += [one.func, *one.args, *one.keywords.values()]
        if wrapped := getattr(one, "__wrapped__", None):
            waiting.append(wrapped)
        if isinstance(one, types.FunctionType) and (one is start or inside(one)):
            names = all_names(one.__code__)
            waiting += [one.__globals__[name] for name in names if name in one.__globals__]
            classes = [value for value in one.__globals__.values() if isinstance(value, type) and inside(value)]
            found = [vars(kind)[name] for kind in classes for name in names if name in vars(kind)]
            waiting += [member.fget if isinstance(member, property) else member for member in found]
            waiting += [cell.cell_contents for cell in one.__closure__ or ()]
            waiting += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
    return list(seen.values())


def inside(function):
    """Whether it is of this file, of the experiments or of a topic's folder: the machinery of claims is not entered."""
    name = function.__module__
    topic = name.startswith("toylab.claims.") and name.count(".") > 2
    return topic or name.startswith("toylab.experiments.") or name == __name__


def all_names(code):
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return {*code.co_names, *(name for one in inner for name in all_names(one))}


def sighted(claim):
    """Why a claim's experiment could know its prediction; empty if it cannot."""
    found = reached(claim.measure)
    modules = [one.__name__ for one in found if isinstance(one, types.ModuleType)]
    modules += [getattr(one, "__module__", None) or "" for one in found if callable(one)]
    uses = sorted({name for name in modules if name == "theory" or name.startswith("theory.")})
    calls = ["its own prediction"] if any(one is claim.predicted for one in found if one is not None) else []
    return uses + calls


def test_no_experiment_sees_its_prediction():
    seeing = {claim.id: sighted(claim) for claim in discovered() if sighted(claim)}
    assert not seeing


theory = types.ModuleType("theory")


def prediction(sample):
    return 2.0


def helper(sample):
    return prediction(sample)


def imports_theory(sample):
    return theory.edge(sample)


class Sample:
    """An experiment's sample that knows a threshold."""

    @property
    def threshold(self):
        return theory.edge(self)

    def near(self):
        return prediction(self)


@pytest.mark.parametrize(
    "measure",
    [
        prediction,
        helper,
        lambda sample: helper(sample),
        lambda sample: [helper(one) for one in sample],
        functools.partial(lambda function, sample: function(sample), prediction),
        lambda sample, function=prediction: function(sample),
        functools.lru_cache(helper),
        imports_theory,
        lambda sample: sample.threshold,
        lambda sample: [one.near() for one in sample],
    ],
)
def test_a_planted_look_is_seen(measure):
    assert sighted(claim_of(measure))


def test_an_honest_experiment_passes():
    assert sighted(claim_of(lambda sample: len(str(sample)))) == []


def claim_of(measure):
    one = equality(1e-6, "planted")
    fields = {"id": "fake/claim", "statement": "s", "source": "s", "tier": "quick"}
    return Claim(comparison=one, predicted=prediction, measure=measure, **fields)
