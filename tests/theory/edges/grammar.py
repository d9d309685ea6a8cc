"""Rules that nobody wrote: chains drawn from a grammar of optax pieces and hand-written filters."""

import inspect
from dataclasses import dataclass

import numpy as np
import optax
import optax.contrib
from hypothesis import strategies as st

from tests.theory.edges.pieces import (
    Piece,
    delayed,
    everywhere,
    hold_adan,
    hold_ademamix,
    hold_decay,
    hold_delay,
    hold_ema,
    hold_filter,
    hold_memoryless,
    hold_mix,
    hold_nesterov_ema,
    hold_nesterov_trace,
    hold_novograd,
    hold_optimistic,
    hold_scale,
    hold_trace,
    injected,
    quasi_hyperbolic,
    state_space,
)

MEMORY = {"b": st.integers(5, 97).map(lambda i: i / 100)}  # two digits: poles apart, or exactly equal
SECOND = {"b2": st.sampled_from([0.9, 0.99, 0.999])}
SIZE = st.integers(2, 30).map(lambda i: i / 10)

# name: build, model, order, adaptive, constants.  Slow constants (b2 of a second moment) do not enter the models.
GRAMMAR = {
    "ema": (lambda b: optax.ema(b, debias=False), hold_ema, 1, False, MEMORY),
    "ema_debiased": (lambda b: optax.ema(b, debias=True), hold_ema, 1, False, MEMORY),
    "trace": (lambda b: optax.trace(b), hold_trace, 1, False, MEMORY),
    "nesterov": (lambda b: optax.trace(b, nesterov=True), hold_nesterov_trace, 1, False, MEMORY),
    "optimistic": (
        optax.scale_by_optimistic_gradient, hold_optimistic, 1, False, {"alpha": SIZE, "beta": SIZE},
    ),
    "scale": (lambda c: optax.scale(c), hold_scale, 0, False, {"c": SIZE}),
    "schedule": (
        lambda c: optax.scale_by_schedule(optax.linear_schedule(0.1, c, 50)), hold_scale, 0, False, {"c": SIZE},
    ),
    "decay": (
        lambda decay: optax.add_decayed_weights(decay), hold_decay, 0, False,
        {"decay": st.integers(1, 20).map(lambda i: i / 100)},
    ),
    "clip_norm": (lambda c: optax.clip_by_global_norm(c), lambda u, w, s, p, c: (u, []), 0, False, {"c": SIZE}),
    "clip": (lambda c: optax.clip(c), lambda u, w, s, p, c: (u, []), 0, False, {"c": SIZE}),
    "identity": (optax.identity, lambda u, w, s, p: (u, []), 0, False, {}),
    "masked": (lambda b: everywhere(optax.trace(b)), hold_trace, 1, False, MEMORY),
    "injected": (injected, hold_ema, 1, False, MEMORY),
    "mix": (quasi_hyperbolic, hold_mix, 1, False, {**MEMORY, "mix": st.integers(10, 95).map(lambda i: i / 100)}),
    "rms": (lambda b2: optax.scale_by_rms(b2), hold_memoryless, 0, True, SECOND),
    "stddev": (lambda b2: optax.scale_by_stddev(b2), hold_memoryless, 0, True, SECOND),
    "rss": (lambda: optax.scale_by_rss(), hold_memoryless, 0, True, {}),
    "adam": (lambda b, b2: optax.scale_by_adam(b, b2), lambda u, w, s, p, b, b2: hold_ema(u, w, s, p, b), 1, True,
             {**MEMORY, **SECOND}),
    "nadam": (lambda b, b2: optax.scale_by_adam(b, b2, nesterov=True),
              lambda u, w, s, p, b, b2: hold_nesterov_ema(u, w, s, p, b), 1, True, {**MEMORY, **SECOND}),
    "amsgrad": (lambda b: optax.scale_by_amsgrad(b), hold_ema, 1, True, MEMORY),
    "belief": (lambda b: optax.scale_by_belief(b), hold_ema, 1, True, MEMORY),
    "yogi": (lambda b: optax.scale_by_yogi(b), hold_ema, 1, True, MEMORY),
    "adamax": (lambda b: optax.scale_by_adamax(b), hold_ema, 1, True, MEMORY),
    "radam": (lambda b: optax.scale_by_radam(b), hold_ema, 1, True, MEMORY),
    "novograd": (lambda b, decay: optax.scale_by_novograd(b, weight_decay=decay), hold_novograd, 1, True,
                 {**MEMORY, "decay": st.sampled_from([0.0, 0.0, 0.05])}),
    "adan": (lambda b, b2: optax.scale_by_adan(b, b2), hold_adan, 3, True,
             {**MEMORY, "b2": st.integers(5, 95).map(lambda i: i / 100)}),
    "ademamix": (lambda b, b3, alpha: optax.contrib.scale_by_ademamix(b, b3=b3, alpha=alpha), hold_ademamix, 2, True,
                 {**MEMORY, "b3": st.sampled_from([0.5, 0.9, 0.97]), "alpha": SIZE}),
}  # fmt: skip

# No preconditioner or no line: each of these must be refused wherever it stands.
NONLINEAR = {
    "sign": optax.scale_by_sign,
    "normalized": optax.normalize_by_update_norm,
    "trust_ratio": optax.scale_by_trust_ratio,
    "centralized": optax.centralize,  # mixes the coordinates of a matrix
}


@st.composite
def pieces(draw):
    kind = draw(st.sampled_from([*GRAMMAR, *GRAMMAR, "delay", "filter", "filter", "filter"]))
    if kind == "delay":
        steps = draw(st.integers(1, 3))
        return Piece(f"delay{steps}", lambda: delayed(steps), hold_delay(steps), steps)
    if kind == "filter":
        A, b, c, d = draw(hand_filters())
        return Piece(f"filter{len(b)}", lambda: state_space(A, b, c, d), hold_filter(A, b, c, d), len(b))
    build, model, order, adaptive, constants = GRAMMAR[kind]
    return Piece(kind, build, model, order, adaptive, True, {n: draw(s, f"{kind}.{n}") for n, s in constants.items()})


@st.composite
def hand_filters(draw):
    """A stable state space of order 1 to 4 in three-digit numbers; its gain at rest is positive nine times in ten."""
    order = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    A = rng.normal(size=(order, order))
    A = np.round(A * rng.uniform(0.2, 0.9) / np.abs(np.linalg.eigvals(A)).max(), 3)
    b, c, d = np.round(rng.normal(size=order), 2), np.round(rng.normal(size=order), 2), round(rng.normal(), 2)
    rest = c @ np.linalg.solve(np.eye(order) - A, b) + d
    if rest < 0 and rng.random() < 0.9:
        c, d = -c, -d
    return A, b, c, d


@dataclass(frozen=True)
class Rule:
    """A drawn chain, as a factory whose first constants are hyperparameters, and as a matrix."""

    pieces: tuple

    @property
    def named(self) -> dict:
        """One constant, of short rules two, become hyperparameters; the others stay numbers in the code."""
        constants = [(f"p{i}_{n}", v) for i, q in enumerate(self.pieces) for n, v in q.constants.items()]
        return dict(constants[: 2 if sum(q.order for q in self.pieces) <= 2 else 1])

    @property
    def factory(self):
        def rule(learning_rate, **named):
            chain = []
            for i, q in enumerate(self.pieces):
                chain.append(q.build(**{n: named.get(f"p{i}_{n}", v) for n, v in q.constants.items()}))
            return optax.chain(*chain, optax.scale_by_learning_rate(learning_rate))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        rule.__signature__ = inspect.Signature(
            [inspect.Parameter("learning_rate", kind)]
            + [inspect.Parameter(n, kind, default=v) for n, v in self.named.items()]
        )
        rule.__name__ = str(self)
        return rule

    @property
    def linear(self) -> bool:
        return all(q.linear for q in self.pieces)

    def matrices(self, eta, p):
        """M0 and M1 of the one-step matrix M0 + h M1 at Hessian h; ``p``: the frozen P of each piece."""
        size = 1 + sum(q.order for q in self.pieces)

        def step(x, g):
            u, w, at, after = g, x[0], 1, []
            for q, frozen in zip(self.pieces, p, strict=True):
                u, s = q.model(u, w, x[at : at + q.order], frozen, **q.constants)
                after += s
                at += q.order
            return np.array([w - eta * u, *after], float)

        M0 = np.array([step(e, 0.0) for e in np.eye(size)]).T
        M1 = np.zeros((size, size))
        M1[:, 0] = step(np.zeros(size), 1.0)
        return M0, M1

    def __str__(self):
        return ">".join(
            q.name + (f"({','.join(f'{n}={v:g}' for n, v in q.constants.items())})" if q.constants else "")
            for q in self.pieces
        )

    __repr__ = __str__


@st.composite
def rules(draw):
    chain = draw(st.lists(pieces(), min_size=1, max_size=4))
    if draw(st.integers(0, 19)) == 19:  # one in twenty has no linear edge; not the end that is drawn most, 0
        name = draw(st.sampled_from([*NONLINEAR]))
        chain[draw(st.integers(0, len(chain) - 1))] = Piece(name, NONLINEAR[name], None, 0, False, False)
    while sum(q.order for q in chain) > 8:  # the oracle's eigenvalue problem is of size n (n + 1), twice
        chain.pop()
    return Rule(tuple(chain or [Piece("identity", optax.identity, hold_memoryless)]))
