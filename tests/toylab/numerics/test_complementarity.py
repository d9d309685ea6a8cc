"""Complementarity over the semidefinite cone: against a conic solver, by its definition, and by its symmetries."""

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from toylab.numerics.complementarity import solve_complementarity

K = 8
SEEDS = st.integers(0, 2**32 - 1)

compiled = jax.jit(solve_complementarity)
compiled_all = jax.jit(jax.vmap(solve_complementarity))


def solve(A, B, active=None, limit=60):
    """One program for all that has K rows: smaller problems are on fewer."""
    return compiled(A, B, np.ones(len(A), bool) if active is None else active, limit=limit)


def solve_all(A, B, active=None):
    return compiled_all(A, B, np.ones(A.shape[:2], bool) if active is None else active)


def basis(k):
    """An orthonormal basis of the symmetric matrices in the column order of a conic solver's upper triangle."""
    found = []
    for j in range(k):
        for i in range(j + 1):
            unit = np.zeros((k, k))
            unit[i, j] = unit[j, i] = 1 if i == j else 0.5**0.5
            found.append(unit)
    return np.array(found)


def coordinates(matrix):
    return np.einsum("mab,ab->m", basis(len(matrix)), matrix)


def applied(B, X):
    return np.einsum("abcd,cd->ab", B, X)


def form(rng, k, rank):
    """B[X, X] = sum of `rank` squares of linear forms in X, as (k, k, k, k)."""
    rows = rng.normal(size=(rank, k, k))
    rows = rows + rows.transpose(0, 2, 1)
    return np.einsum("nab,ncd->abcd", rows, rows) / rank


def spectrum(rng, k, values):
    q = np.linalg.qr(rng.normal(size=(k, k)))[0]
    return q * np.asarray(values) @ q.T


def planted(rng, k, degenerate=False, deficient=False):
    """A, B and a solution X of any rank; Y vanishes on one direction of X's kernel too where `degenerate`."""
    rank, m = int(rng.integers(0, k + 1)), k * (k + 1) // 2
    x = np.where(np.arange(k) < rank, np.exp(rng.normal(size=k)), 0)
    y = np.where(np.arange(k) < rank, 0, np.exp(rng.normal(size=k)))
    if degenerate:
        y[-1] = 0
        x[-1] = 0
    q = np.linalg.qr(rng.normal(size=(k, k)))[0]
    X, Y = q * x @ q.T, q * y @ q.T
    B = form(rng, k, max(1, m // 2) if deficient else m + 3)
    return Y - applied(B, X), B, X


def padded(A, B, active):
    """The problem on the rows `active` of K rows; the others hold numbers that must not matter."""
    k = len(active)
    wide, wider = np.full((k, k), 7.0), np.full((k, k, k, k), -3.0)
    wide[np.ix_(active, active)] = A
    wider[np.ix_(active, active, active, active)] = B
    return wide, wider


def by_conic_solver(A, B):
    """The minimum of B[X, X]/2 + <A, X> over X >= 0 by clarabel, in coordinates of the symmetric matrices."""
    k = len(A)
    units = basis(k)
    P = np.einsum("mab,abcd,ncd->mn", units, B, units)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    cones = [clarabel.PSDTriangleConeT(k)]
    size = len(P)
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix(np.triu(P)), coordinates(A), sparse.csc_matrix(-np.eye(size)), np.zeros(size), cones, settings
    )
    solution = solver.solve()
    assert str(solution.status) in ("Solved", "AlmostSolved")
    return np.einsum("m,mab->ab", solution.x, units)


def value(A, B, X):
    return np.sum(A * X) + np.sum(X * applied(B, X)) / 2


@pytest.mark.parametrize("k", range(1, K + 1))
def test_a_conic_solver_agrees(k):
    """Full and deficient rank, active on k of K rows."""
    rng = np.random.default_rng(k)
    for deficient in (False, True):
        A, B, _ = planted(rng, k, deficient=deficient)
        if not deficient:
            A = spectrum(rng, k, rng.normal(size=k))
        other = by_conic_solver(A, B)
        active = rng.permutation(np.arange(K) < k)
        found = solve(*padded(A, B, active), active)
        np.testing.assert_array_equal(np.asarray(found.X)[~active], 0)
        X = np.asarray(found.X)[np.ix_(active, active)]
        assert found.converged
        scale = np.linalg.norm(A)
        # the solver's own accuracy, 1e-11 in the value: its root in X, and in what only squares of X see
        np.testing.assert_allclose(applied(B, X), applied(B, other), atol=1e-5 * scale)
        np.testing.assert_allclose(value(A, B, X), value(A, B, other), atol=1e-9 * scale * (1 + np.linalg.norm(other)))
        if not deficient:
            np.testing.assert_allclose(X, other, atol=1e-5 * (1 + np.linalg.norm(other)))


@given(seed=SEEDS, degenerate=st.booleans(), deficient=st.booleans())
def test_the_definition_holds_and_what_is_unique_is_found(seed, degenerate, deficient):
    rng = np.random.default_rng(seed)
    A, B, X = planted(rng, K, degenerate, deficient)
    found = solve(A, B)
    assert found.converged
    got = np.asarray(found.X)
    Y, size = A + applied(B, got), np.linalg.norm(A)
    # the tolerance of 1000 eps is of |A|; the smallest eigenvalue of X is rounding
    assert np.linalg.eigvalsh(got)[0] >= -1e-14 * np.linalg.norm(got)
    assert np.linalg.eigvalsh(Y)[0] >= -3e-13 * size
    assert abs(np.sum(got * Y)) <= 3e-13 * size * np.linalg.norm(got)
    # B[X] is unique: B[D, D] = <D, Y - Y'> <= what both miss, of which the difference D is the root
    np.testing.assert_allclose(applied(B, got), applied(B, X), atol=3e-6 * (1 + size) * (1 + np.linalg.norm(X)))


@pytest.mark.parametrize("degenerate", [False, True])
def test_the_error_of_a_unique_solution_is_of_rounding_and_its_rank_exact(degenerate):
    """Also where X and Y vanish together, which costs an interior point method half of its digits."""
    rng = np.random.default_rng(3)
    drawn = [planted(rng, K, degenerate) for _ in range(20)]
    A, B, X = (np.array(part) for part in zip(*drawn, strict=True))
    found = [solve(*case) for case in zip(A, B, strict=True)]
    assert all(one.converged for one in found)
    got = np.array([one.X for one in found])
    # 1000 eps of |A| through the inverse of B, whose condition is of order 100 in these draws
    np.testing.assert_allclose(got, X, atol=1e-10 * max(np.linalg.norm(a) for a in A))
    ranks = np.linalg.matrix_rank(got, tol=1e-10)
    np.testing.assert_array_equal(ranks, np.linalg.matrix_rank(X, tol=1e-10))


@given(seed=SEEDS, powers=st.tuples(st.integers(-60, 60), st.integers(-60, 60)))
def test_scaling(seed, powers):
    """X(cA, B) = c X(A, B), X(A, cB) = X(A, B)/c: exactly for powers of two, to rounding of the norms."""
    A, B, _ = planted(np.random.default_rng(seed), K)
    first, second = (2.0**power for power in powers)
    once, again = solve(A, B), solve(first * A, second * B)
    # the same computation up to rounding of two norms, then 1000 eps through the inverse of B
    size = np.linalg.norm(once.X) + np.linalg.norm(A) / np.linalg.norm(B)
    np.testing.assert_allclose(again.X * second / first, once.X, atol=1e-9 * size)
    np.testing.assert_allclose(again.residual, once.residual, atol=3e-13)


@given(seed=SEEDS, permute=st.booleans())
def test_equivariance(seed, permute):
    """X(Q A Q^T, B rotated) = Q X Q^T."""
    rng = np.random.default_rng(seed)
    A, B, _ = planted(rng, K)
    Q = np.eye(K)[rng.permutation(K)] if permute else np.linalg.qr(rng.normal(size=(K, K)))[0]
    turned = solve(Q @ A @ Q.T, np.einsum("ia,jb,kc,ld,abcd->ijkl", Q, Q, Q, Q, B, optimize=True))
    straight = solve(A, B)
    size = np.linalg.norm(straight.X) + np.linalg.norm(A) / np.linalg.norm(B)
    np.testing.assert_allclose(turned.X, Q @ np.asarray(straight.X) @ Q.T, atol=1e-9 * size)  # as above


# from 1e-200: below the normal numbers is zero
@given(a=st.floats(1e-200, 1e6) | st.floats(-1e6, -1e-200) | st.just(0.0), b=st.floats(1e-6, 1e6))
def test_one_row_in_closed_form(a, b):
    found = solve(jnp.full((1, 1), a), jnp.full((1, 1, 1, 1), b))
    np.testing.assert_allclose(found.X[0, 0], max(-a, 0) / b, rtol=1e-15 * 8)  # four roundings, each up to 2 eps
    assert found.converged and found.iterations == 0


def test_one_active_row_of_many_is_the_closed_form():
    active = np.arange(K) == 2
    found = solve(*padded(np.array([[-3.0]]), np.array([[[[4.0]]]]), active), active)
    np.testing.assert_allclose(found.X, np.diag(0.75 * active), rtol=1e-12)  # 1000 eps


def test_a_diagonal_problem_falls_apart_into_rows():
    A, slopes = np.zeros(K), np.ones(K)
    A[:5], slopes[:5] = [-1.0, 2.0, -1e-6, 0.0, -5.0], [1.0, 2.0, 3.0, 4.0, 0.5]
    units = np.einsum("ia,ib->iab", np.eye(K), np.eye(K))
    B = np.einsum("i,iab,icd->abcd", slopes, units, units)
    found = solve(np.diag(A), B)
    # 1000 eps of |A| = 5.6, over the slopes
    np.testing.assert_allclose(np.diag(found.X), np.maximum(-A, 0) / slopes, atol=1000 * 2.3e-16 * 6 / 0.5)


def test_no_push_no_answer():
    """A positive semidefinite: X is zero, not small; nothing active: zero too; A = 0: zero."""
    rng = np.random.default_rng(0)
    B = form(rng, K, 50)
    for A in (spectrum(rng, K, np.arange(1, K + 1)), np.diag([0.0, 1, 2, 0, 0, 3, 0, 1]), np.zeros((K, K))):
        found = solve(A, B)
        assert found.converged and found.iterations == 0
        np.testing.assert_array_equal(found.X, 0)
    dead = solve(-np.eye(K), B, np.zeros(K, bool))
    assert dead.converged
    np.testing.assert_array_equal(dead.X, 0)


@pytest.mark.parametrize("k", [1, K])
def test_without_a_minimum_it_says_so_and_stays_finite(k):
    """B = 0, or B blind to the direction in which A is negative."""
    unit = np.zeros((k, k))
    unit[0, 0] = 1
    blind = np.einsum("ab,cd->abcd", unit, unit) if k > 1 else np.zeros((1, 1, 1, 1))
    for B in (np.zeros((k, k, k, k)), blind):
        found = solve(-np.eye(k), B)
        assert not found.converged and found.residual > 0.1
        assert jnp.all(jnp.isfinite(found.X)) and jnp.isfinite(found.residual)


def test_nonfinite_input_is_not_converged():
    assert not solve(np.full((K, K), np.nan), np.zeros((K, K, K, K))).converged


def test_too_few_iterations_are_not_converged():
    A, B, _ = planted(np.random.default_rng(1), K)
    few, enough = solve(A, B, limit=3), solve(A, B)
    assert enough.converged and not few.converged and few.iterations == 3
    assert few.residual > enough.residual


@pytest.mark.slow  # two more programs; below the same law is seen at the accuracy of float32
@pytest.mark.parametrize("mapped", [False, True])
def test_vmap_and_scan_are_the_loop(mapped):
    rng = np.random.default_rng(8)
    A, B, _ = (np.array(part) for part in zip(*(planted(rng, K) for _ in range(12)), strict=True))
    cases = A, B, rng.random((12, K)) < 0.7
    if mapped:
        found = solve_all(*cases)
    else:
        found = jax.lax.scan(lambda carry, case: (carry, solve_complementarity(*case)), 0, cases)[1]
    for i, case in enumerate(zip(*cases, strict=True)):
        alone = solve(*case)
        assert alone.converged and found.converged[i]
        # other kernels, other roundings: 1000 eps through the inverse of B
        np.testing.assert_allclose(found.X[i], alone.X, atol=1e-9 * (1 + np.linalg.norm(alone.X)))


def test_float32_in_vmap_is_float64_in_a_loop_to_its_accuracy():
    # the fourth is one in a thousand: with a solver that stops at the tolerance itself rounding takes it beyond
    rng = np.random.default_rng(1036)
    drawn = [planted(rng, K, deficient=i % 2 == 1) for i in range(20)]
    A, B, _ = (np.array(part) for part in zip(*drawn, strict=True))
    active = rng.random((20, K)) < 0.7
    found = solve_all(A.astype(np.float32), B.astype(np.float32), active)
    assert found.X.dtype == found.residual.dtype == np.float32
    assert jnp.all(found.converged)
    np.testing.assert_array_equal(np.asarray(found.X)[~active], 0)
    for i in range(20):
        # 1000 eps of float32 is 1.2e-4 of |A| in Y; what B[X] is off by is its root where B is singular
        exact = solve(A[i], B[i], active[i])
        off = applied(B[i], np.asarray(found.X[i], float) - np.asarray(exact.X))[np.ix_(active[i], active[i])]
        assert np.linalg.norm(off) <= (0.05 if i % 2 else 5e-3) * np.linalg.norm(A[i])


def test_gradients_of_a_block_of_the_hessian():
    """B[X]_ab = <g_ab, sum g_cd X_cd>, the form that a flow at the edge meets; A small and of both signs."""
    rng = np.random.default_rng(9)
    g = rng.normal(size=(K, K, 60))
    g = (g + g.transpose(1, 0, 2)) / 2 + 3 * np.eye(K)[..., None] * rng.normal(size=60)
    A = 1e-3 * np.diag(rng.normal(size=K))
    found = solve(A, np.einsum("abp,cdp->abcd", g, g))
    assert found.converged and found.iterations <= 15 and jnp.linalg.norm(found.X) > 0
