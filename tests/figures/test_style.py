"""What a figure says is still there in grey, and text has one font wherever it is drawn."""

import matplotlib as mpl
import numpy as np

from figures import style


def lightness(colours: np.ndarray) -> np.ndarray:
    """Luma of sRGB colours (n, 3 or 4), as a grey printer sees them (ITU-R BT.601)."""
    return colours[:, :3] @ np.array([0.299, 0.587, 0.114])


def test_growth_colours_darken_all_the_way():
    assert np.all(np.diff(lightness(style.growth_colours()(np.arange(256)))) < 0)


def test_curves_differ_in_more_than_colour():
    assert style.FLIP["linestyle"] != style.PAIR["linestyle"]


def test_the_style_is_valid_and_leaves_no_trace():
    before = mpl.rcParams["font.size"]
    with mpl.rc_context(style.paper()):
        assert mpl.rcParams["font.size"] == style.paper()["font.size"]
    assert mpl.rcParams["font.size"] == before
