"""The averaged motion beside a curve of minima against exact steps of gradient descent."""

import pytest
import sympy as sp

from theory.edges.filter_numbers import ADVANCE, BEND, KAPPA, Q1
from theory.self_stabilization import valley_motion as law


@pytest.mark.slow
def test_the_ansatz_solves_one_step_of_gradient_descent():
    """Put "mean plus (-1)^t envelope" with the derived rates into the exact map: what is left is of fourth order."""
    moved = law.motion_beside_minima()
    loss, x, t = law.local_loss()
    size, sign = sp.symbols("size sign")
    a, eta = law.a, law.eta
    across, along = law.envelope, law.along
    b21, b12 = law.b21, law.b12
    gd = {KAPPA: 1, BEND: 0, Q1: 1, ADVANCE: 0, eta: 2 / a}
    sharp_bend = (a * law.b22 + 2 * b12**2 - b12 * law.cubic) / (2 * a)
    excess = size * b21 * along + size**2 * sharp_bend * along**2
    power = size**2 * across**2
    rate = moved.growth * excess + moved.growth2 * excess**2 + moved.saturation * power
    climb = power * (-moved.slide + moved.slide2 * excess)  # y' ; t' = y'/(dy/dt)
    rate, climb = (sp.expand(e.subs(gd)) for e in (rate, climb))
    # y' = (dy/dt) t', inverted to the order that counts
    slide = sp.expand(climb / size / b21 * (1 - 2 * size * sharp_bend * along / b21))

    def flow(f):
        return sp.diff(f, across) * across * rate + sp.diff(f, along) * slide

    def place(big_a, big_t, s):
        mean = -(law.cubic * big_a**2 + b12 * big_t**2) / (2 * a)
        return size * s * big_a + size**2 * mean, size * big_t + size**2 * s * b12 * big_a * big_t / a

    def low(e):
        """Up to third order in size, as polynomial in it and in sign (sign^2 = 1)."""
        found = {}
        for (order, odd), c in sp.Poly(sp.expand(e), size, sign).terms():
            if order <= 3:
                key = (order, odd % 2)
                found[key] = found.get(key, 0) + c
        return found

    here = place(across, along, sign)
    step = dict(zip((x, t), here, strict=True))
    ahead = [f + flow(f) + flow(flow(f)) / 2 for f in (across, along)]
    ahead = [sp.Add(*(c * size**n for (n,), c in sp.Poly(sp.expand(f), size).terms() if n <= 2)) for f in ahead]
    there = place(*ahead, -sign)
    for variable, now, then in zip((x, t), here, there, strict=True):
        left = then - now + (2 / a) * sp.diff(loss, variable).subs(step, simultaneous=True)
        for (order, odd), c in low(left).items():
            # mean of x and oscillation of t are carried to second order: their third does not react on the law
            if order <= 2 or (odd == 1) == (variable == x):
                assert sp.expand(c) == 0, (variable, order, odd)
