"""Planted claims and figures, so that the commands are tested apart from what the laboratory happens to
claim.
"""

import dataclasses
import importlib.machinery
import os
import sys
import types

import numpy as np
import pytest

import toylab.claims
from toylab.claims import Claim, equality, measurement

SHARED = {"source": "arithmetic", "tier": "quick"}


def claim(name, measure, **fields):
    given = {"comparison": equality(1e-6, "planted"), "predicted": lambda sample: 2.0} | fields
    return Claim(id=name, statement=f"{name} is two", measure=measure, **{**SHARED, **given})


HOLDS = claim("fake/holds", lambda sample: 2.0 + 1e-8)
MEASURED = claim("fake/measured", lambda sample: 5.0, comparison=measurement(), predicted=None, finding="five")
LONG = claim("slow/long", lambda sample: 2.0, tier="long")


@pytest.fixture
def environment():
    """For a process of its own in another folder: it imports what this one imports, and no precision is
    chosen.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    return inherited | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture
def planted_claims(monkeypatch):
    """A list that `toylab verify` takes for all the claims there are."""
    claims = [HOLDS, MEASURED, LONG]
    monkeypatch.setattr(toylab.claims, "discovered", lambda: claims)
    monkeypatch.setattr("toylab.commands.parts.processes.usual_jobs", lambda: 1)  # others would not know them
    monkeypatch.setattr("toylab.commands.parts.shadowing.shadowed", lambda names=(): [])
    return claims


@pytest.fixture
def interrupted_claim():
    """A claim during which the user presses Ctrl-C."""

    def interrupt(sample):
        raise KeyboardInterrupt

    return dataclasses.replace(HOLDS, id="fake/interrupted", measure=interrupt)


@pytest.fixture
def planted_figures(monkeypatch, tmp_path):
    """A package `figures` with one figure that draws and one that fails when it is not quick."""
    folder = tmp_path / "elsewhere" / "figures"
    folder.mkdir(parents=True)
    package = types.ModuleType("figures")
    package.__path__ = [str(folder)]
    package.PARTS = ("style",)
    package.__spec__ = importlib.machinery.ModuleSpec("figures", None, is_package=True)

    def draw(data):
        from matplotlib.figure import Figure

        figure = Figure()
        figure.add_subplot().plot(data["x"])
        return figure

    def compute(quick):
        if not quick:
            raise RuntimeError("only quick works")
        return {"x": np.arange(3.0)}

    bodies = {
        "planted": {
            "NAME": "planted",
            "TITLE": "a line",
            "compute": lambda quick: {"x": np.arange(3.0)},
            "draw": draw,
        },
        "tender": {"NAME": "tender", "TITLE": "another", "compute": compute, "draw": draw},
        "style": {},
    }
    monkeypatch.setitem(sys.modules, "figures", package)
    for name, body in bodies.items():
        (folder / f"{name}.py").write_text("")
        module = types.ModuleType(f"figures.{name}")
        vars(module).update(body)
        monkeypatch.setitem(sys.modules, f"figures.{name}", module)
    monkeypatch.setattr("toylab.commands.parts.shadowing.shadowed", lambda names=(): [])
