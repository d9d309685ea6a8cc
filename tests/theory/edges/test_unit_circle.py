"""`numpy.roots` and brute force as oracles of the unit circle's algebra."""

from itertools import chain

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given
from hypothesis import strategies as st

from theory.edges.unit_circle import gain_at, is_schur, jury_conditions, on_circle, stable_windows, value

# two digits: the oracle's roots are then never closer to the circle than its own accuracy, unless on it
coefficient = st.integers(-300, 300).map(lambda i: i / 100)
# roots inside a disc of radius 1.3: about half of the polynomials come out stable
root = st.one_of(
    st.floats(-1.3, 1.3).map(lambda r: [round(r, 2)]),
    st.tuples(st.floats(0.05, 1.25), st.floats(0.1, 3.0)).map(
        lambda p: [p[0] * np.exp(1j * p[1]), p[0] * np.exp(-1j * p[1])]
    ),
)


@st.composite
def polynomials(draw, degree=6):
    """Real, leading coefficient positive; from random roots or from random coefficients."""
    if draw(st.booleans()):
        roots = [*chain.from_iterable(draw(st.lists(root, min_size=1, max_size=degree)))][:degree]
        roots = roots if np.isclose(np.poly(roots).imag, 0).all() else [r.real for r in np.asarray(roots)]
        p = np.real(np.poly(roots)) * draw(st.sampled_from([1.0, 0.5, 3.0]))
    else:
        p = np.array([draw(st.integers(1, 300)) / 100, *draw(st.lists(coefficient, min_size=1, max_size=degree))])
    return [float(f"{c:.6g}") for c in p]


def radius(p):
    return np.abs(np.roots(p)).max(initial=0.0)


def clear_of_the_circle(p):
    """A root of multiplicity up to 6 is known to eps^(1/6) = 2e-3 only; nearer ones are left out."""
    assume(abs(radius(p) - 1) > 5e-3)


@given(polynomials())
def test_jury_conditions_are_positive_exactly_where_all_roots_lie_inside(p):
    clear_of_the_circle(p)
    conditions = jury_conditions([sp.Rational(str(c)) for c in p])
    assert all(c > 0 for c in conditions) == (radius(p) < 1)


@given(polynomials())
def test_schur_recursion_agrees_with_the_roots(p):
    clear_of_the_circle(p)
    assert is_schur([mp.mpf(c) for c in p]) == (radius(p) < 1)


def test_jury_conditions_of_a_quadratic_are_the_textbook_triangle():
    a, b = sp.symbols("a b", real=True)
    expected = [1 + a + b, 1 - a + b, 1 + b, 1 - b]
    assert all(any(sp.expand(e - c) == 0 for c in jury_conditions([1, a, b])) for e in expected[:2] + expected[3:])


def test_degree_zero_has_no_condition_and_degree_one_has_two():
    assert jury_conditions([3]) == []
    assert len(jury_conditions([1, sp.Symbol("a")])) == 2
    assert is_schur([2.0])


@pytest.mark.parametrize("p", [[1, 0, 0, -1.02], [1, -2, 1.01], [1, 1.001]])
def test_a_root_just_outside_is_noticed(p):
    assert not is_schur(p)
    assert not all(c > 0 for c in jury_conditions(p))


@st.composite
def loops(draw):
    """a(z) + k b(z): a has a root at 1 (the weight) and else roots inside, b is of lower degree; descent at k -> 0."""
    inner = [*chain.from_iterable(draw(st.lists(root, min_size=0, max_size=3)))]
    inner = [r / max(1.0, abs(r) / 0.97) for r in inner]
    a = np.real(np.poly([1.0, *inner]))
    b = np.array([0.0, *draw(st.lists(coefficient, min_size=len(a) - 1, max_size=len(a) - 1))])
    assume(abs(b.sum()) > 0.02)
    b *= np.sign(b.sum())  # then the root at 1 moves inwards first
    return a, b


@given(loops())
def test_stable_windows_agree_with_a_scan_of_the_spectral_radius(loop):
    a, b = loop
    found = stable_windows(list(a), list(b))
    gains = np.geomspace(1e-4, 1e5, 400)
    for k in gains:
        ends = [e for window in found.windows for e in window if 0 < e < np.inf]
        if any(abs(k / e - 1) < 1e-3 for e in ends):  # near an end the scan's roots cannot tell
            continue
        r = radius(a + k * b)
        if abs(r - 1) < 1e-5:  # a double root at the circle is known to sqrt(eps), and k -> 0 is marginal
            continue
        assert (r < 1) == any(lo < k < hi for lo, hi in found.windows), (k, r, found)


@given(loops())
def test_every_window_ends_with_a_root_on_the_circle_at_its_cosine(loop):
    a, b = loop
    found = stable_windows(list(a), list(b))
    for _, hi in found.windows:
        if np.isinf(hi):
            continue
        roots = np.roots(a + hi * b)
        # a double root is known to sqrt(eps) relative to coefficients of size hi * |b|
        assert abs(np.abs(roots).max() - 1) < 1e-5
        critical = roots[np.argmin(np.abs(np.abs(roots) - 1))]
        assert abs(critical.real - found.cosine[hi]) < 1e-3


@given(loops(), st.floats(0.05, 3.09))
def test_the_condition_on_the_circle_is_the_imaginary_part_of_the_loop(loop, angle):
    a, b = loop
    z = np.exp(1j * angle)
    cross = np.imag(np.polyval(a, z) * np.conj(np.polyval(b, z)))
    mine = np.sin(angle) * value(on_circle(list(a), list(b)), np.cos(angle))
    # N's coefficients grow like 2^degree, and their rounding with them
    assert abs(mine - cross) < 1e-13 * np.abs(a).sum() * np.abs(b).sum() * 4 ** len(a)
    # at any angle, the gain is the least-squares real k of a + k b = 0
    k = gain_at(list(a), list(b), np.cos(angle))
    expected = -np.real(np.polyval(a, z) * np.conj(np.polyval(b, z))) / abs(np.polyval(b, z)) ** 2
    assert k == pytest.approx(expected, rel=1e-9, abs=1e-9 * abs(a).sum() / abs(np.polyval(b, z)))


def test_two_windows_are_found():
    """A pair of zeros near the circle catches the escaping pair: stable, unstable, stable, unstable."""
    a = np.real(np.poly([1.0, 0.98 * np.exp(0.5j), 0.98 * np.exp(-0.5j)]))
    b = 0.02 * np.array([0.0, *np.real(np.poly([0.9 * np.exp(0.8j), 0.9 * np.exp(-0.8j)]))])
    gains = np.geomspace(1e-3, 1e3, 4000)
    inside = np.array([radius(a + k * b) < 1 for k in gains])
    scanned = np.sqrt(gains[:-1] * gains[1:])[np.diff(inside.astype(int)) != 0]
    (lowest, first), second = stable_windows(list(a), list(b)).windows
    assert lowest < 1e-12  # the rounding of a(1) = 0 by np.poly
    np.testing.assert_allclose([first, *second], scanned, rtol=2e-3)  # spacing of the scan


@given(loops())
def test_more_digits_do_not_move_the_windows(loop):
    a, b = loop
    coarse, fine = (stable_windows(list(a), list(b), digits=d).windows for d in (40, 80))
    # both start from the same float64 coefficients; ends are cut to float64, a double end to half of 40 digits
    assert len(coarse) == len(fine)
    np.testing.assert_allclose(np.array(coarse), np.array(fine), rtol=1e-15, atol=1e-300)
