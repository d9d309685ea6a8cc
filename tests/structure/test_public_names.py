"""Every public name imports, whatever was imported before it, is documented, and no name hides a module."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("theory", "toylab", "figures")


def modules(root: Path = ROOT) -> list[str]:
    """Every module of the three packages, except those whose import runs a program."""
    found = []
    for path in sorted(path for name in PACKAGES for path in (root / name).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] != "__main__":
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


# Run in a fresh interpreter: imports the modules in a random order, then looks at every public name.
LOOK = """
import importlib, inspect, random, sys
seed, names = int(sys.argv[1]), sys.argv[2:]
random.Random(seed).shuffle(names)
loaded = {name: importlib.import_module(name) for name in names}

def documented(thing):
    text = inspect.getdoc(thing) if not inspect.isclass(thing) else thing.__doc__
    # dataclasses and named tuples write their signature where no docstring was given
    return bool(text) and not text.startswith(getattr(thing, "__name__", "?") + "(")

for name, module in loaded.items():
    if not documented(module):
        print(f"{name} has no docstring")
    own = [
        item for item, thing in vars(module).items()
        if item[0] != "_" and callable(thing) and getattr(thing, "__module__", None) == name
    ]
    public = getattr(module, "__all__", own)
    if len(set(public)) != len(public):
        print(f"{name}.__all__ names something twice")
    for item in public:
        if not hasattr(module, item):
            print(f"{name}.{item} does not exist")
            continue
        thing = getattr(module, item)
        if f"{name}.{item}" in loaded and not inspect.ismodule(thing):
            print(f"{name}.{item} hides the module of that name")
        if item == name.rpartition(".")[2] and callable(thing):
            print(f"{name}.{item} has its module's name")
        if (callable(thing) or inspect.ismodule(thing)) and not documented(thing):
            print(f"{name}.{item} has no docstring")
    for other, child in loaded.items():
        parent, _, last = other.rpartition(".")
        if parent == name and getattr(module, last, None) is not child:
            print(f"{other} cannot be reached as an attribute of {name}")
"""


def complaints(names: list[str], seed: int, root: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK, str(seed), *names],
        capture_output=True, text=True, timeout=300, check=False, cwd=root,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_public_names_in_random_order(seed):
    assert complaints(modules(), seed) == ""


@pytest.mark.parametrize("package", ["theory", "toylab"])
def test_the_narrow_doors_say_what_is_public(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    assert any(isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__" for n in tree.body)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"__init__.py": "'doc'\n__all__ = ['gone']"}, "theory.gone does not exist"),
        ({"__init__.py": "'doc'\ndef f(): pass"}, "theory.f has no docstring"),
        (
            {"__init__.py": "'doc'\nfrom typing import NamedTuple\nclass T(NamedTuple):\n    a: int"},
            "theory.T has no docstring",
        ),
        ({"__init__.py": "'doc'", "a.py": "x = 1"}, "theory.a has no docstring"),
        ({"__init__.py": "'doc'", "a.py": "'doc'\ndef a():\n    'doc'"}, "theory.a.a has its module's name"),
        (
            {
                "__init__.py": "'doc'\nfrom theory.a import b as a\n__all__ = ['a']",
                "a.py": "'doc'\ndef b(): 'doc'",
            },
            "theory.a hides the module of that name",
        ),
        ({"__init__.py": "'doc'", "a.py": "'doc'\nimport nothing_of_this_name"}, "ModuleNotFoundError"),
    ],
)
def test_a_planted_fault_is_seen(tmp_path, files, complaint):
    (tmp_path / "theory").mkdir()
    for name, text in files.items():
        (tmp_path / "theory" / name).write_text(text)
    assert complaint in complaints(modules(tmp_path), 0, tmp_path)
