"""`toylab doctor`: is this installation able to give right numbers, and does it say which ones it uses?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from toylab.commands.parts.refusal import BadInput


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", metavar="DIR", default="out", help="the output folder to check (default out)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 if every check passes, 1 if not."""
    from toylab.training.environment import devices, precision, versions

    environment = {"versions": versions(), "devices": devices(), "precision": precision()}
    checks = [
        _checked("packages", _own_packages),
        _checked("theory", _theory),
        _checked("simulation", _simulation),
        _checked("output", lambda: _output(options.out)),
    ]
    if options.json:
        print(json.dumps({"ok": all(check["ok"] for check in checks), "checks": checks, "environment": environment}))
    else:
        print(f"devices    {', '.join(environment['devices'])}")
        print(f"precision  {environment['precision']}")
        versions_line = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        print(f"versions   {versions_line}")
        for check in checks:
            print(f"{check['name']:<10} {'ok' if check['ok'] else 'FAILED'}: {check['detail']}")
    return 0 if all(check["ok"] for check in checks) else 1


def _checked(name: str, check: Callable[[], str]) -> dict[str, Any]:
    """Run one check: it returns a detail, or raises with what is wrong."""
    try:
        return {"name": name, "ok": True, "detail": check()}
    except Exception as error:  # noqa: BLE001 - a check that breaks is a finding
        hint = f" ({error.hint})" if isinstance(error, BadInput) and error.hint else ""
        return {
            "name": name,
            "ok": False,
            "detail": " ".join(f"{error}{hint}".split()) or type(error).__name__,
        }


def _own_packages() -> str:
    from toylab.commands.parts.shadowing import OURS, require_own

    for name in OURS:
        require_own(name)
    return f"{' and '.join(OURS)} are the ones installed with toylab"


def _theory() -> str:
    """Gradient descent, whose threshold everybody knows."""
    import optax
    import sympy

    import theory

    edge = theory.edge(optax.sgd)
    if edge.threshold is None or sympy.simplify(edge.threshold * edge.symbols["learning_rate"]) != 2:
        raise ValueError(f"gradient descent's threshold is derived as {edge.threshold}, which should be 2/eta")
    return "gradient descent is derived stable below 2/eta"


def _simulation() -> str:
    """Ten steps of gradient descent on a quadratic against their closed form."""
    import jax.numpy as jnp
    import numpy as np
    import optax

    import toylab

    eigenvalues, learning_rate, steps = jnp.array([1.0, 3.0]), 0.1, 10
    problem = toylab.problems.quadratic(eigenvalues, start=jnp.ones(2))
    final = toylab.train(problem, optax.sgd(learning_rate), steps=steps).params
    expected = (1 - learning_rate * np.asarray(eigenvalues)) ** steps
    error = float(np.max(np.abs(np.asarray(final) - expected)))
    bound = 100 * float(np.finfo(np.asarray(final).dtype).eps)  # ten products and sums, each rounded once
    if not error <= bound:
        raise ValueError(f"ten steps on a quadratic are off by {error:.1e}, more than rounding ({bound:.1e})")
    return f"ten steps on a quadratic agree with the closed form to {error:.0e}"


def _output(path: str) -> str:
    """The folder is left as it was: removed again if it was made for the check."""
    from pathlib import Path

    from toylab.commands.parts.files import writable_folder

    missing = [one for one in (Path(path), *Path(path).parents) if not one.exists()]
    folder = writable_folder(path)
    for one in missing:
        one.rmdir()
    return f"{folder} can be written"
