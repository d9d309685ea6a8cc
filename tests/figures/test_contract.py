"""Every figure: declares itself, computes finite arrays that `draw` can use from disk, and keeps its text inside."""

import importlib
import io
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure

from figures import first_light
from toylab.discovery import declarations

MODULES = [module for module, _ in declarations("figures", "NAME")]

COMPILE_MUCH = {
    "adam_edges", "batch_threshold", "bifurcation_diagram", "blocked_advancing", "catapult_phase_diagram",
    "cnn_zoom", "edge_of_stability", "first_light", "flows_adaptive", "flows_gd", "flows_in_the_plane",
    "four_stages", "leaving_the_flow", "mini_batch", "orbit_laws", "order_of_accuracy",
    "oscillation_variance", "phase_diagrams", "phase_portrait", "rmsprop_edge", "scalar_rmsprop", "second_moments",
    "settling", "spectrum",
}  # fmt: skip
"""Figures that compile for eight seconds and more even for quick data: behind the marker."""
NAMES = [module.NAME for module in MODULES]
COMPUTED = [pytest.param(name, marks=pytest.mark.slow) if name in COMPILE_MUCH else name for name in NAMES]


@cache
def made(name: str) -> tuple[Figure, dict[str, np.ndarray]]:
    """A figure drawn from its data as they come back from their file; first light is one short run, not three."""
    module = importlib.import_module(f"figures.{name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_light, "COLUMNS", (first_light.COLUMNS[0]._replace(steps=180),))
        stream = io.BytesIO()
        np.savez(stream, **module.compute(True))
        stream.seek(0)
        with np.load(stream) as stored:
            data = dict(stored)
        return module.draw(data), data


def overhang(figure: Figure) -> float:
    """How far, in inches, what is drawn reaches beyond the figure's rim."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)


def test_the_figures_of_the_first_issue_are_there():
    assert {"phase_diagrams", "quadratic_edge", "root_loci", "first_light"} <= {module.NAME for module in MODULES}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_a_figure_declares_itself(module):
    assert module.__name__ == f"figures.{module.NAME}"
    assert module.TITLE and "\n" not in module.TITLE
    assert callable(module.compute) and callable(module.draw)


# One test, not two: whichever worker runs it computes the figure once.
@pytest.mark.parametrize("name", COMPUTED)
def test_data_are_finite_and_the_figure_saves_with_no_text_clipped(name):
    figure, data = made(name)
    for key, array in data.items():
        assert array.dtype != object, key
        # a run of first light this short does not settle
        if array.dtype.kind in "fc" and key != "gd_plateau":
            assert np.isfinite(array).all(), key
    assert isinstance(figure, Figure)
    assert overhang(figure) < 0.5 / figure.dpi  # half a pixel of rounding
    figure.savefig(io.BytesIO(), format="png", dpi=60)


def test_a_planted_overhang_is_seen():
    figure = Figure()
    figure.text(0.9, 0.5, "a text that does not fit beside the rim")
    assert overhang(figure) > 0.5


@pytest.mark.slow
def test_first_light_of_gd_measures_the_same_edge_twice():
    _, data = made("first_light")
    # without preconditioner the edge ratio is the sharpness over the threshold; each is tracked to a residual of 1e-2
    # of its value, which bounds its error
    np.testing.assert_allclose(data["gd_sharpness"] / data["gd_threshold"], data["gd_edge_ratio"], rtol=2e-2)
    assert data["gd_steps"][:4].tolist() == [0, 1, first_light.EVERY, first_light.EVERY + 1]  # pairs
