"""The arrows of the design: which part may import which, and what only the rim may do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RIM = ("toylab.cli", "toylab.commands", "toylab.__main__")

# room -> the rooms of the house that it may import, beside itself; a topic's folder is a room of its own
ROOT_OF_THEORY = ("theory.errors", "theory.simplify", "theory.theorem")
TRACED = (*ROOT_OF_THEORY, "theory.tracing")
DERIVED = (*TRACED, "theory.edges", "theory.losses")
GROUND = ("toylab.discovery", "toylab.numerics", "toylab.optimizers")
MEASURED = (*GROUND, "toylab.problems", "toylab.curvature")
ANALYSED = (*MEASURED, "toylab.rules", "toylab.filters")
CORE = (*ANALYSED, "toylab.observing", "toylab.models", "toylab.training", "toylab")
TOPIC = ("theory", *CORE, "toylab.experiments", "toylab.claims")
ALLOWED = {
    **dict.fromkeys(ROOT_OF_THEORY, ()),
    "theory.tracing": ROOT_OF_THEORY,
    "theory.edges": TRACED,
    "theory.losses": TRACED,
    "theory.noise": (*TRACED, "theory.edges"),
    "theory.toy_losses": (*TRACED, "theory.edges"),
    "theory.two_cycles": DERIVED,
    "theory.self_stabilization": DERIVED,
    "theory.averages": DERIVED,
    "theory": ("theory",),
    **dict.fromkeys(GROUND, ()),
    "toylab.problems": GROUND,
    "toylab.curvature": (*GROUND, "toylab.problems"),
    "toylab.rules": MEASURED,
    "toylab.filters": ("toylab.rules",),
    "toylab.observing": ANALYSED,
    "toylab.models": ANALYSED,
    "toylab.training": (*ANALYSED, "toylab.observing"),
    "toylab": CORE,
    "toylab.experiments": CORE,
    "toylab.claims": ("toylab.claims", "toylab.discovery", "toylab.numerics"),
    "toylab.claims.*": TOPIC,
    "figures": (*TOPIC, "toylab.claims.*", "figures"),
    "toylab.commands": (*TOPIC, "toylab.claims.*", "figures", "toylab.commands"),
    "toylab.cli": ("toylab.commands", "toylab.discovery"),
    "toylab.__main__": ("toylab.cli",),
}

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
TOPICS = frozenset(path.name for path in (ROOT / "toylab" / "claims").iterdir() if (path / "__init__.py").exists())
SHELL = ("toylab.cli", "toylab.commands", "toylab.__main__", "figures")  # may print and switch on x64


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def layer(module: str) -> str:
    return next(name for name in FORBIDDEN if within(module, name))


def room(module: str, topics: frozenset[str]) -> str:
    """The room that a module, or a name in one, belongs to: two parts of its name, of a topic three."""
    parts = module.split(".")
    if parts[:2] == ["toylab", "claims"] and len(parts) > 2 and parts[2] in topics:
        return ".".join(parts[:3])
    if parts[0] == "figures":
        return parts[0]
    return next((name for name in (".".join(parts[:2]), parts[0]) if name in ALLOWED), "")


def into_the_wrong_room(
    source: str, module: str, is_package: bool = False, topics: frozenset[str] = TOPICS
) -> list[str]:
    """The imports in `source` of rooms that its own may not know."""
    package = module if is_package else module.rpartition(".")[0]
    here = room(module, topics)
    allowed = ALLOWED["toylab.claims.*" if here.count(".") == 2 else here]
    found = []
    for line, name in imported(ast.parse(source), package):
        there = room(name, topics)
        seen = "toylab.claims.*" if there.count(".") == 2 else there
        inside = "theory" if there.startswith("theory") else seen
        if there and there != here and seen not in allowed and inside not in allowed:
            found.append(f"{module}:{line} imports {name}: {here} may not import {there}")
    return found


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


def test_every_room_has_its_arrows():
    """A new folder is given its place in `ALLOWED` before anything is put into it."""
    rooms = {room(module_name(path), TOPICS) for path in SOURCES}
    known = {"toylab.claims.*" if name.count(".") == 2 else name for name in rooms}
    assert known == ALLOWED.keys()
    folders = {path.parent.relative_to(ROOT).parts[:2] for path in SOURCES if path.parent != ROOT / "figures"}
    assert {".".join(parts) for parts in folders} <= ALLOWED.keys()


def test_the_house_has_no_circle():
    """No two rooms may import each other, over any number of rooms between them."""
    above = {name: set() if name in ("theory", "toylab") else set(rooms) - {name} for name, rooms in ALLOWED.items()}
    while above:
        ground = {name for name, rooms in above.items() if not rooms & above.keys() - {name}}
        assert ground, f"a circle among {sorted(above)}"
        above = {name: rooms for name, rooms in above.items() if name not in ground}


def test_imports_stay_within_the_rooms_that_may_be_known():
    found = [
        violation
        for path in SOURCES
        for violation in into_the_wrong_room(path.read_text(), module_name(path), path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("theory.errors", "from theory.tracing.symbols import Hyperparameters"),
        ("theory.tracing.schedules", "from theory.edges.transfer import Transfer"),
        ("theory.edges.sam", "from theory.losses.taylor import S"),
        ("theory.noise.sampling", "from theory.self_stabilization.drift import drift_law"),
        ("toylab.numerics.complementarity", "from toylab import curvature"),
        ("toylab.problems.digits", "import toylab.curvature"),
        ("toylab.rules.filter", "from toylab.models.kernel import Kernel"),
        ("toylab.models.rod_flow", "from toylab.training.loop import train"),
        ("toylab.models.rod_flow", "from toylab.observing import observers"),
        ("toylab.training.loop", "from toylab.models import rollout"),
        ("toylab.experiments.held_runs", "import theory"),
        ("toylab.experiments.held_runs", "from toylab.claims.claim import Claim"),
        ("toylab.claims.runner", "from toylab.claims.edge.thresholds import CLAIMS"),
        ("toylab.claims.flows.growth", "from toylab.claims.edge.thresholds import CLAIMS"),
        ("toylab.claims.edge.thresholds", "from figures.style import paper"),
        ("figures.root_loci", "from toylab.commands.parts import files"),
    ],
)
def test_a_planted_step_into_the_wrong_room_is_caught(module, source):
    assert len(into_the_wrong_room(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("theory.averages.rmsprop", "from theory.losses.taylor import S\nfrom theory.theorem import Theorem"),
        (
            "toylab.training.loop",
            "from toylab.observing.observer import Moment\nfrom toylab.rules.edge import EdgeData",
        ),
        ("toylab.claims.edge.thresholds", "import theory, toylab\nfrom toylab.experiments import held_runs"),
        ("toylab.claims.edge.thresholds", "from toylab.claims.edge.growth import CLAIMS"),
        ("figures.root_loci", "from toylab.claims.flows.table import kept\nfrom figures import style"),
    ],
)
def test_a_step_into_a_room_below_passes(module, source):
    assert into_the_wrong_room(source, module) == []


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
