"""The stable windows of a loop, against the largest root at every lambda of a grid."""

import numpy as np
import pytest

from toylab.rules.errors import NoLinearEdge
from toylab.rules.windows import reduced, stable_windows

GRID = np.linspace(0.003, 12, 2000)
"""Values of lambda; no end of a window below lies on one of them."""


def heavy_ball(b):
    """(w, m): m+ = b m + lambda w, w+ = w - m+."""
    return np.array([[1.0, -b], [0.0, b]]), np.array([-1.0, 1.0])


def delayed(b):
    """(w, m, g): gradient descent with momentum, on the gradient of one step before."""
    return np.array([[1.0, -b, -1.0], [0.0, b, 1.0], [0.0, 0.0, 0.0]]), np.array([0.0, 0.0, 1.0])


def from_far(size):
    """A weight that grows by itself, and that only a large enough curvature holds: the window starts above zero."""
    return np.array([[size]]), np.array([-1.0])


LOOPS = {
    "gd": heavy_ball(0.0),
    "heavy ball": heavy_ball(0.8),
    "alternating momentum": heavy_ball(-0.5),
    "delayed": delayed(0.0),
    "delayed, with momentum": delayed(0.5),
    "unstable by itself": from_far(1.5),
}


def polynomials(matrix, inject):
    """The characteristic polynomial of the loop is poly0 + lambda poly1."""
    drive = np.zeros_like(matrix)
    drive[:, 0] = inject
    poly0 = np.poly(matrix)
    return poly0, np.poly(matrix + drive) - poly0


def stable_by_eigenvalues(matrix, inject):
    drive = np.zeros_like(matrix)
    drive[:, 0] = inject
    return np.array([np.abs(np.linalg.eigvals(matrix + lam * drive)).max() < 1 for lam in GRID])


def inside(windows):
    return np.any([(lo < GRID) & (hi > GRID) for lo, hi in windows], axis=0)


def windows_of(matrix, inject):
    poly0, poly1, _ = reduced(*polynomials(matrix, inject))
    return stable_windows(poly0, poly1, matrix, inject)


@pytest.mark.parametrize("name", LOOPS)
def test_inside_a_window_every_root_is_inside_the_circle_and_outside_none_is(name):
    windows, _ = windows_of(*LOOPS[name])
    truth = stable_by_eigenvalues(*LOOPS[name])
    assert truth.any() and not truth.all()
    np.testing.assert_array_equal(inside(windows), truth)
    # a planted error of two percent in the upper end is seen
    (lo, hi), *others = windows
    assert not np.array_equal(inside([(lo, 1.02 * hi), *others]), truth)


# solving with matrices of size three at most: a few dozen roundings, on numbers of order ten
@pytest.mark.parametrize("b", [0.0, 0.5, 0.9])
def test_heavy_ball_leaves_by_a_flip(b):
    windows, angle = windows_of(*heavy_ball(b))
    np.testing.assert_allclose(windows, [(0.0, 2 * (1 + b))], rtol=1e-13)
    assert angle == pytest.approx(np.pi, rel=1e-13)


def test_a_delay_turns_the_flip_into_a_rotation():
    windows, angle = windows_of(*delayed(0.0))  # z^2 - z + lambda: on the circle at lambda = 1, z = exp(i pi/3)
    np.testing.assert_allclose(windows, [(0.0, 1.0)], rtol=1e-13)
    assert angle == pytest.approx(np.pi / 3, rel=1e-13)


def test_a_mode_that_the_gradient_does_not_move_is_divided_out_or_refused():
    matrix, inject = heavy_ball(0.5)

    def beside(own):
        bigger = np.zeros((3, 3))
        bigger[:2, :2], bigger[2, 2] = matrix, own
        return bigger, np.append(inject, 0.0)

    alone = windows_of(matrix, inject)[0]
    for own in (0.3, 1.0):
        np.testing.assert_allclose(windows_of(*beside(own))[0], alone, rtol=1e-12)
    assert [abs(z) for z in reduced(*polynomials(*beside(1.0)))[2]] == pytest.approx([1.0])
    with pytest.raises(NoLinearEdge, match="unstable by itself"):
        windows_of(*beside(1.1))
