"""The project's own records agree with each other: version, dependencies, lock, wheel."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("theory", "toylab", "figures")
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()}


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def third_party(paths: list[Path], local: set[str]) -> dict[str, str]:
    """Top-level modules imported by `paths`, neither Python's nor `local` -> a file that imports them."""
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                tops = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                tops = [node.module.partition(".")[0]]
            else:
                tops = []
            found |= {top: str(path) for top in tops if top not in sys.stdlib_module_names | local}
    return found


def undeclared(imports: dict[str, str], declared: set[str]) -> dict[str, str]:
    """The imports that no declared distribution provides."""
    providers = packages_distributions()
    return {
        top: path
        for top, path in imports.items()
        if not declared & {canonicalize_name(name) for name in providers.get(top, [top])}
    }


def test_what_the_packages_import_is_declared():
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert undeclared(third_party(paths, set(PACKAGES)), names(RUNTIME)) == {}


def test_what_the_tests_import_is_declared():
    paths = list((ROOT / "tests").rglob("*.py"))
    local = {*PACKAGES} | {path.stem for path in paths} | {path.parent.name for path in paths}
    assert undeclared(third_party(paths, local), names(RUNTIME + EXTRAS["test"])) == {}


TOOLS = {"hatchling", "pytest-xdist"}
"""Packages that the tests run rather than import."""


def unused(declared: set[str], imports: dict[str, str]) -> set[str]:
    """The declared distributions of which nothing is imported."""
    providers = packages_distributions()
    return declared - {canonicalize_name(name) for top in imports for name in providers.get(top, [])}


def test_what_the_tests_declare_is_used():
    imports = third_party(list((ROOT / "tests").rglob("*.py")), {*PACKAGES})
    assert unused(names(EXTRAS["test"]), imports) == TOOLS


def test_what_the_packages_declare_is_used():
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert unused(names(RUNTIME), third_party(paths, set(PACKAGES))) == {"jaxlib"}  # what jax runs on


def test_a_planted_package_is_unused():
    assert unused({"beartype", "numpy"}, {"numpy": "a.py"}) == {"beartype"}


def test_a_planted_import_is_undeclared(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text("import os, numpy\nfrom somewhere.deep import thing\n")
    assert set(undeclared(third_party([planted], set()), names(RUNTIME))) == {"somewhere"}


def pins() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_lock_satisfies_every_declared_range(python):
    environment = {"python_version": python, "python_full_version": python + ".5"}
    locked = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins()
        if pin.marker is None or pin.marker.evaluate(environment)
    }
    for requirement in RUNTIME + EXTRAS["test"] + EXTRAS["dev"]:
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


def test_the_lock_names_only_releases():
    text = (ROOT / "requirements.lock").read_text()
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins())
    assert not re.search(r"^\s*-|://|/\w+/", text, re.MULTILINE), "an option, an address or a folder"


def test_the_version_is_written_once():
    number = PROJECT["version"]
    readers = [ROOT / "Makefile", ROOT / "CITATION.cff", ROOT / "README.md", ROOT / ".ci" / "run"]
    readers += [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    elsewhere = [str(path) for path in readers if re.search(rf"\b{re.escape(number)}\b", path.read_text())]
    assert elsewhere == []
    assert (ROOT / "pyproject.toml").read_text().count(f'"{number}"') == 1
    assert version(PROJECT["name"]) == number


def wheel_faults(listed: list[str], root: Path) -> set[str]:
    """The files by which a wheel differs from exactly the three packages of `root` and their data."""
    content = {name for name in listed if not name.partition("/")[0].endswith(".dist-info")}
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file())
    return content ^ {path.relative_to(root).as_posix() for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_holds_exactly_the_packages_and_their_data(wheel):
    assert wheel_faults(wheel, ROOT) == set()
    assert any(name.startswith("toylab/problems/data/") and name.endswith(".npz") for name in wheel)
    assert {name.partition("/")[0] for name in wheel if ".dist-info" not in name} == set(PACKAGES)


def test_a_planted_stray_and_a_planted_gap_are_seen(wheel):
    assert wheel_faults([*wheel, "tests/test_a.py"], ROOT) == {"tests/test_a.py"}
    gap = "toylab/__init__.py"
    assert wheel_faults([name for name in wheel if name != gap], ROOT) == {gap}
