"""Maps written by hand on the local model of a loss, with their 2-cycles: an oracle that shares no code with theory.

A rule is (step, jacobian, size) on v = (x, s, fast state); the loss is that of `gradient`, c a dictionary of numbers.
"""

import numpy as np

ZERO, ONE = np.zeros((2, 2)), np.eye(2)


def model(sharpness, alpha, beta, c3=0.0, c4=0.0, p=0.0, m=0.0, h=0.0, f=0.0):
    """Derivatives at the origin: L_xx, -sqrt(beta) L_s, L_xxs^2, L_xxx, L_xxxx, L_xxss, L_xss, L_ss, -L_x."""
    return {
        "S": sharpness, "a": alpha, "b": np.sqrt(beta), "c3": c3, "c4": c4, "p": p, "m": m, "h": h, "f": f
    }  # fmt: skip


def gradient(w, c):
    """Of L, whose derivatives at the origin are `model` and L_ssss = 3 m^2/S."""
    x, s = w
    across = c["p"] * s * x**2 / 2 + c["m"] * x * s + c["h"] * s - c["a"] / c["b"] + c["m"] ** 2 / c["S"] * s**3 / 2
    along = c["c3"] * x**2 / 2 + c["c4"] * x**3 / 6 + c["p"] * s**2 * x / 2 + c["m"] * s**2 / 2 - c["f"]
    return np.array([c["S"] * x + c["b"] * s * x + along, c["b"] * x**2 / 2 + across])


def hessian(w, c):
    """Of the same loss."""
    x, s = w
    top = c["S"] + c["b"] * s + c["c3"] * x + c["c4"] * x**2 / 2 + c["p"] * s**2 / 2
    mixed = c["b"] * x + c["p"] * s * x + c["m"] * s
    low = c["p"] * x**2 / 2 + c["m"] * x + c["h"] + 3 * c["m"] ** 2 / c["S"] * s**2 / 2
    return np.array([[top, mixed], [mixed, low]])


def momentum(b, weight=1.0, nesterov=False):
    """m+ = b m + weight g; w+ = w - eta m+, or w - eta (weight g + b m+)."""

    def step(v, eta, c):
        g = weight * gradient(v[:2], c)
        average = b * v[2:] + g
        return np.concatenate([v[:2] - eta * (g + b * average if nesterov else average), average])

    def jacobian(v, eta, c):
        h = weight * hessian(v[:2], c)
        average = np.hstack([h, b * ONE])
        move = np.hstack([h, ZERO]) + b * average if nesterov else average
        return np.vstack([np.hstack([ONE, ZERO]) - eta * move, average])

    return step, jacobian, 4


def optimistic(a, b):
    """w+ = w - eta ((a + b) g - b g_before); the fast state is g_before."""

    def step(v, eta, c):
        g = gradient(v[:2], c)
        return np.concatenate([v[:2] - eta * ((a + b) * g - b * v[2:]), g])

    def jacobian(v, eta, c):
        h = hessian(v[:2], c)
        return np.vstack([np.hstack([ONE - eta * (a + b) * h, eta * b * ONE]), np.hstack([h, ZERO])])

    return step, jacobian, 4


RULES = {
    "gd": lambda n: momentum(0.0),
    "heavy_ball": lambda n: momentum(n["momentum"]),
    "nesterov": lambda n: momentum(n["momentum"], nesterov=True),
    "ema_momentum": lambda n: momentum(n["momentum"], 1 - n["momentum"]),
    "adam": lambda n: momentum(n["b1"], 1 - n["b1"]),
    "nadam": lambda n: momentum(n["b1"], 1 - n["b1"], nesterov=True),
    "optimistic_gd": lambda n: optimistic(n["alpha"], n["beta"]),
}
"""The rule of that name with P = 1, by its hyperparameters."""


def two_cycle(rule, eta, c):
    """A point of the 2-cycle near x^2 = 2 alpha/beta, by Newton, and the Jacobian of two steps there."""
    step, jacobian, size = rule
    v = np.zeros(size)
    v[0] = np.sqrt(2 * c["a"]) / c["b"]
    for _ in range(30):
        middle = step(v, eta, c)
        twice = jacobian(middle, eta, c) @ jacobian(v, eta, c)
        move = np.linalg.solve(twice - np.eye(size), step(middle, eta, c) - v)
        v = v - move
    if not np.abs(move).max() < 1e-9 * np.abs(v).max():
        raise ArithmeticError("Newton's search for a 2-cycle did not converge")
    return v, jacobian(step(v, eta, c), eta, c) @ jacobian(v, eta, c)


def slow_pair(twice):
    """(growth, angle) per step of the complex multiplier of two steps that is closest to 1."""
    multipliers = np.linalg.eigvals(twice)
    complex_ones = multipliers[multipliers.imag > 1e-9]
    exponent = np.log(complex_ones[np.argmin(np.abs(complex_ones - 1))]) / 2
    return exponent.real, exponent.imag
