"""Paper-style figures, one module each.

A module that declares `NAME` and `TITLE` is a figure: `compute(quick) -> dict of arrays` does the work and draws
nothing, `draw(data) -> Figure` draws and computes nothing, so a figure can be restyled from the data saved beside it.
Thresholds come from `theory`, measurements from the core of `toylab`; no formula is typed here.
"""

PARTS = ("style", "members", "flow_runs", "model_paths")
"""Modules that several figures share, which are none themselves."""
