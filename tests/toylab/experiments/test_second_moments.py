"""The convex programme that second moments are compared with, against a solver of semidefinite programmes."""

import clarabel
import numpy as np
import pytest
from scipy import sparse

from toylab.experiments.second_moments import Rest, stationary

ROOT = np.sqrt(2.0)


def solved(rest, rate, edge):
    """Least sum of M + t with H <= edge diag M and [[M_i, g_i/rate], [g_i/rate, t_i]] >= 0."""
    size = rest.gradient.size
    pairs = [(i, j) for j in range(size) for i in range(j + 1)]
    rows, columns, values, right = [], [], [], []
    for row, (i, j) in enumerate(pairs):  # s = vec(edge diag M - H), off the diagonal times sqrt 2
        right.append(-rest.hessian[i, j] * (1 if i == j else ROOT))
        if i == j:
            rows, columns, values = [*rows, row], [*columns, i], [*values, -edge]
    cones, base = [clarabel.PSDTriangleConeT(size)], len(pairs)
    for i in range(size):
        rows, columns, values = [*rows, base, base + 2], [*columns, i, size + i], [*values, -1.0, -1.0]
        right += [0.0, ROOT * rest.gradient[i] / rate, 0.0]
        cones.append(clarabel.PSDTriangleConeT(2))
        base += 3
    matrix = sparse.csc_matrix((values, (rows, columns)), shape=(base, 2 * size))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    nothing = sparse.csc_matrix((2 * size, 2 * size))
    found = clarabel.DefaultSolver(nothing, np.ones(2 * size), matrix, np.array(right), cones, settings).solve()
    return np.array(found.x[:size])


@pytest.mark.parametrize(("seed", "edge"), [(0, 2.0), (1, 38.0), (2, 2.0), (3, 6.0)])
def test_the_barrier_finds_the_solution_of_the_programme(seed, edge):
    random = np.random.default_rng(seed)
    half = random.normal(size=(7, 3 + seed))
    hessian = half @ half.T - 0.3 * np.eye(7)  # negative directions, too
    rest = Rest(None, random.normal(size=7) * 2e-2 / edge, hessian)
    found = stationary(rest, 0.1, edge)
    # the interior point solver stops at 1e-8 of the objective, and the objective is flat around its minimum
    np.testing.assert_allclose(found, solved(rest, 0.1, edge), rtol=1e-3)
    gap = np.linalg.eigvalsh(edge * np.diag(found) - hessian)[0]
    assert 0 <= gap < 1e-6  # at the edge
