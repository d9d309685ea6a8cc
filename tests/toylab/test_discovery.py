"""Members of a folder are found without a list, and what is wrong with one is said in a line with its file."""

import sys

import pytest

from toylab.discovery import DiscoveryError, claim_name, declarations, merged, subpackages


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package of these modules and returns its name; it is forgotten again after the test."""

    def write(**modules: str) -> str:
        folder = tmp_path / "planted_members"
        folder.mkdir()
        for name, source in {"__init__": "PARTS = ('machinery',)", **modules}.items():
            (folder / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        return "planted_members"

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "planted_members"]:
        del sys.modules[name]


def test_members_are_found_by_the_names_of_their_modules(package):
    name = package(b="ITEMS = {'two': 2}", a="ITEMS = {'one': 1}")
    assert [(module.__name__, value) for module, value in declarations(name, "ITEMS")] == [
        ("planted_members.a", {"one": 1}),
        ("planted_members.b", {"two": 2}),
    ]
    assert list(merged(name, "ITEMS").items()) == [("one", 1), ("two", 2)]


def test_machinery_private_modules_and_folders_are_not_asked(package, tmp_path):
    name = package(a="ITEMS = {}", machinery="raise ValueError('not looked at')", _private="raise ValueError")
    (tmp_path / "planted_members" / "inner").mkdir()
    (tmp_path / "planted_members" / "inner" / "__init__.py").write_text("")
    assert len(declarations(name, "ITEMS")) == 1
    assert subpackages(name) == ["planted_members.inner"]


def test_a_folder_that_python_would_not_show_is_named(package, tmp_path):
    name = package(a="ITEMS = {}")
    (tmp_path / "planted_members" / "lost").mkdir()
    assert subpackages(name) == []
    (tmp_path / "planted_members" / "lost" / "one.py").write_text("ITEMS = {}")
    with pytest.raises(DiscoveryError, match=r"lost has no __init__\.py"):
        subpackages(name)


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ({"a": "X = 1"}, r"a\.py declares no ITEMS: every module of planted_members declares one"),
        ({"a": "ITEMS = {'x': 1}", "b": "ITEMS = {'x': 2}"}, r"'x' is declared twice, in .*a\.py and .*b\.py"),
        ({"a": "import no_such_module"}, r"a\.py cannot be imported: ModuleNotFoundError: No module named"),
        ({"a": "1 /"}, r"a\.py cannot be imported: SyntaxError"),
    ],
)
def test_a_planted_mistake_is_named_with_its_file(package, modules, complaint):
    with pytest.raises(DiscoveryError, match=complaint) as raised:
        merged(package(**modules), "ITEMS")
    assert "\n" not in str(raised.value)
    assert raised.value.hint


def test_one_module_cannot_declare_a_name_twice():
    owners = {}
    claim_name(owners, "x", pytest)
    with pytest.raises(DiscoveryError, match="'x' is declared twice"):
        claim_name(owners, "x", pytest)
