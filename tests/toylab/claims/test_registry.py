"""Claims are found without a list of modules, and chosen by id, topic and tier."""

import sys
import textwrap

import pytest

from toylab.claims import Claim, UnknownClaim, discovered, equality, selected
from toylab.discovery import DiscoveryError

MODULE = """
from toylab.claims import Claim, equality

CLAIM = Claim(
    id="{id}", statement="s", source="s", tier="quick", comparison=equality(1e-6, "planted"),
    predicted=lambda sample: 1.0, measure=lambda sample: 1.0,
)
{rest}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package of claim modules and returns its name; forgotten again after the test."""

    def write(topics):
        root = tmp_path / "planted_claims"
        for folder in (root, *(root / topic for topic in topics)):
            folder.mkdir()
            (folder / "__init__.py").write_text('PARTS = ("helper",)')
        for topic, modules in topics.items():
            for name, source in modules.items():
                (root / topic / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(tmp_path))
        return "planted_claims"

    yield write
    for name in [name for name in sys.modules if name.startswith("planted_claims")]:
        del sys.modules[name]


def module(name, rest="CLAIMS = [CLAIM]"):
    return MODULE.format(id=name, rest=rest)


def test_modules_are_found_without_a_list(package):
    helper = "X = 1\n"
    name = package({"zebra": {"one": module("zebra/a"), "helper": helper}, "ant": {"one": module("ant/a")}})
    assert [claim.id for claim in discovered(name)] == ["ant/a", "zebra/a"]


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ({"one": module("a/b"), "two": module("a/b")}, r"'a/b' is declared twice, in .*one.py and .*two.py"),
        ({"one": module("a/b", rest="CLAIM_LIST = [CLAIM]")}, r"one.py declares no CLAIMS"),
        ({"one": module("a/b", rest="CLAIMS = []")}, r"one.py makes a/b but lists it in no CLAIMS"),
        ({"one": module("a/b", rest="CLAIMS = CLAIM")}, r"one.py declares CLAIMS that is no list of claims"),
        ({"one": module("a/b", rest="CLAIMS = ['a/b']")}, r"one.py declares CLAIMS that is no list of claims"),
        ({"one": "raise SystemExit(3)"}, r"one.py cannot be imported: SystemExit: 3"),
        ({"one": module("b/b")}, r"one.py declares b/b.*of another topic"),
        ({"one": "import no_such_module_here\n"}, r"one.py cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_planted_mistake_is_named(package, modules, complaint):
    with pytest.raises(DiscoveryError, match=complaint):
        discovered(package({"a": modules}))


def test_the_real_package_is_discovered():
    assert all(isinstance(claim, Claim) for claim in discovered())


def fake(name, tier):
    one = equality(1e-6, "planted")
    return Claim(
        id=name,
        statement="s",
        source="s",
        tier=tier,
        comparison=one,
        predicted=lambda s: 1,
        measure=lambda s: 1,
    )


FAKES = [
    fake("edge/a", "quick"),
    fake("edge/b", "default"),
    fake("noise/c", "default"),
    fake("networks/d", "long"),
]


@pytest.mark.parametrize(
    ("names", "tier", "expected"),
    [
        ([], "quick", ["edge/a"]),
        ([], "default", ["edge/a", "edge/b", "noise/c"]),
        ([], "long", ["edge/a", "edge/b", "noise/c", "networks/d"]),
        (["edge"], "quick", ["edge/a"]),
        (["networks/d"], "quick", ["networks/d"]),
        (["noise", "edge/a"], "default", ["edge/a", "noise/c"]),
    ],
)
def test_selection(names, tier, expected):
    assert [claim.id for claim in selected(FAKES, names, tier)] == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [("edge/aa", "edge/a"), ("nois", "noise"), ("zzzzzz", "topics are"), ("networks", "tier long")],
)
def test_an_unknown_name_comes_with_a_suggestion(name, hint):
    with pytest.raises(UnknownClaim) as caught:
        selected(FAKES, [name], "default")
    assert hint in caught.value.hint
