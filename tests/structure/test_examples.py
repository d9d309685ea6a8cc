"""Every public name of the two packages shows in its docstring how it is used, and the example runs."""

import doctest
import importlib
import inspect

import pytest

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PUBLIC = [(package, name) for package in ("theory", "toylab") for name in importlib.import_module(package).__all__]


def complaint(text: str | None, name: str) -> str:
    """What is wrong with the example in the docstring `text`; empty if it is there and gives what it shows."""
    test = doctest.DocTestParser().get_doctest(inspect.cleandoc(text or ""), {}, name, None, 0)
    if not test.examples:
        return f"{name} has no example"
    if not any(example.want for example in test.examples):
        return f"the example of {name} shows no result"
    told: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append)
    return "".join(told)


SHOWN_ELSEWHERE = {"max_learning_rate", "observe_step", "observers", "sweep"}
"""Names whose examples compile a run of their own, and which the pages of docs run as well: behind the marker."""
CASES = [
    pytest.param(*one, marks=pytest.mark.slow if one[1] in SHOWN_ELSEWHERE else (), id=".".join(one)) for one in PUBLIC
]


@pytest.mark.parametrize(("package", "name"), CASES)
def test_the_example_of_a_public_name_runs(package, name):
    thing = getattr(importlib.import_module(package), name)
    assert complaint(thing.__doc__, f"{package}.{name}") == ""


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (None, "no example"),
        ("A sentence.", "no example"),
        ("A sentence.\n\n    Example:\n    >>> x = 1", "shows no result"),
        ("A sentence.\n\n    Example:\n    >>> 1 + 1\n    3", "Expected:"),
        ("A sentence.\n\n    Example:\n    >>> no_such_name\n    3", "NameError"),
    ],
)
def test_a_planted_fault_is_seen(text, seen):
    assert seen in complaint(text, "planted")


def test_a_right_example_passes():
    assert complaint("A sentence.\n\n    Example:\n    >>> 1 + 1\n    2", "planted") == ""
