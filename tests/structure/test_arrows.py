"""The arrows of the design: which part may import which, and what only the rim may do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RIM = ("toylab.cli", "toylab.commands", "toylab.__main__")

# layer -> what it never imports, lazily or not; the first layer whose prefix fits a module is its layer
FORBIDDEN = {
    "theory": ("toylab", "matplotlib", "figures"),
    "figures": ("toylab.report", *RIM),
    "toylab.claims": ("matplotlib", "figures", "toylab.report", *RIM),
    "toylab.report": RIM,
    "toylab.cli": (),
    "toylab.commands": (),
    "toylab.__main__": (),
    "toylab": ("sympy", "matplotlib", "theory", "figures", "toylab.claims", "toylab.report", *RIM),
}
SHELL = ("toylab.cli", "toylab.commands", "toylab.__main__", "figures")  # may print and switch on x64


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def layer(module: str) -> str:
    return next(name for name in FORBIDDEN if within(module, name))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that is imported, by statement or by import_module, seen from `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            # `from toylab import claims` names the module toylab.claims
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((node.lineno, str(a.value)) for a in node.args[:1] if isinstance(a, ast.Constant))


def against_arrows(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports in `source` that its layer forbids."""
    package = module if is_package else module.rpartition(".")[0]
    forbidden = FORBIDDEN[layer(module)]
    return [
        f"{module}:{line} imports {name}"
        for line, name in imported(ast.parse(source), package)
        if any(within(name, prefix) for prefix in forbidden)
    ]


def rim_only(source: str, module: str) -> list[str]:
    """Prints, reads of argv and changes of JAX's configuration in `source`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        text = ast.unparse(node) if isinstance(node, ast.Call | ast.Attribute) else ""
        if text.startswith(("print(", "jax.config.update(", "config.update(")) or text == "sys.argv":
            found.append(f"{module}:{node.lineno} {text}")
    return found


SOURCES = sorted(path for name in ("theory", "toylab", "figures") for path in (ROOT / name).rglob("*.py"))


def test_every_part_of_the_house_is_seen():
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == {"theory", "toylab", "figures"}


def test_imports_follow_the_arrows():
    found = [
        violation
        for path in SOURCES
        for violation in against_arrows(path.read_text(), module_name(path), path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


def test_only_the_rim_prints_reads_argv_and_configures_jax():
    found = [
        violation
        for path in SOURCES
        if not any(within(module_name(path), shell) for shell in SHELL)
        for violation in rim_only(path.read_text(), module_name(path))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("theory.tracing.interpreter", "import toylab"),
        ("theory.tracing.interpreter", "from toylab.filters import held_filter"),
        ("theory.tracing.interpreter", "def f():\n    import matplotlib.pyplot as plt"),
        ("toylab.filters", "import sympy"),
        ("toylab.filters", "from theory import edge"),
        ("toylab.filters", "from toylab import claims"),
        ("toylab.filters", "from . import cli"),
        ("toylab.models.optimizer", "from ..claims.edge import CLAIMS"),
        ("toylab.filters", "import importlib\nimportlib.import_module('theory')"),
        ("toylab.claims.edge.thresholds", "import figures"),
        ("toylab.claims.edge.thresholds", "from toylab.cli import main"),
        ("figures.root_loci", "from toylab.cli import main"),
        ("toylab.report.page", "from ..commands import verify"),
    ],
)
def test_a_planted_import_is_caught(module, source):
    assert len(against_arrows(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("theory.tracing.interpreter", "import jax, sympy\nfrom .theorem import Theorem"),
        ("toylab.filters", "import jax\nfrom .problems import quadratic\nimport theoryx"),
        ("toylab.claims.edge.thresholds", "import theory\nfrom toylab import filters"),
        ("toylab.cli", "import figures, theory, toylab.claims"),
    ],
)
def test_an_allowed_import_passes(module, source):
    assert against_arrows(source, module) == []


@pytest.mark.parametrize("source", ["print(1)", "x = sys.argv[1:]", "jax.config.update('a', 1)"])
def test_a_planted_side_effect_is_caught(source):
    assert len(rim_only(source, "toylab.filters")) == 1


@pytest.mark.parametrize("module", ["toylab", "toylab.cli", "theory"])
def test_what_an_import_loads(module):
    above = ["sympy", "matplotlib", "theory", "figures", "toylab.claims", "toylab.report"]
    heavy = {
        "toylab": [*above, "toylab.cli", "toylab.commands"],
        "toylab.cli": above,
        "theory": ["toylab", "matplotlib", "figures"],
    }[module]
    code = (
        f"import sys, {module}, jax\n"
        "assert not jax.config.jax_enable_x64, 'an import switched on x64'\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
