"""Sharpness and edge ratio, at the iterate and at the second-order midpoint."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from toylab.curvature import begin_track
from toylab.observing.observer import Moment, Observer, stateless
from toylab.observing.tracking import preconditioned_hessian, tracked

PyTree = Any


def _sharpness(count: int) -> Observer:
    """The `count` largest eigenvalues of H, (count,), and the residual of each."""

    def records(moment: Moment) -> dict[str, Array]:
        pairs = moment.pairs
        assert pairs is not None, "asked for below"
        return {
            "sharpness": pairs.value[:count],
            "sharpness_residual": pairs.residual[:count],
            "sharpness_products": pairs.products,
            "sharpness_converged": pairs.converged[:count],
        }

    return stateless(records, pairs=count)


def _midpoint_sharpness(count: int) -> Observer:
    """As `sharpness`, with the Hessian at the midpoint (w_{t-1} + 2 w_t + w_{t+1})/4."""

    def observe(memory: PyTree, moment: Moment) -> tuple[PyTree, dict[str, Array]]:
        pairs, memory = tracked(memory, moment.problem.hessian(moment.midpoint), moment.midpoint)
        records = {
            "midpoint_sharpness": pairs.value,
            "midpoint_residual": pairs.residual,
            "midpoint_converged": pairs.converged,
        }
        return memory, records

    return Observer(observe, lambda params: begin_track(params, count))


def _edge_ratio(count: int) -> Observer:
    """lambda_max(P^-1/2 H P^-1/2) over the rule's threshold: 1 at the edge. P is that of this very step; with coupled
    weight decay H is the loss's Hessian plus that decay.
    """

    def observe(memory: PyTree, moment: Moment) -> tuple[PyTree, dict[str, Array]]:
        matvec, inverse = preconditioned_hessian(moment, moment.hvp)
        pairs, memory = tracked(memory, matvec, moment.params, inverse)
        ratios = pairs.value / _threshold(moment, pairs.value.dtype)
        records = {
            "edge_ratio": ratios[0],
            "preconditioned_sharpness": pairs.value[0],
            "edge_residual": pairs.residual[0],
            "edge_products": pairs.products,
            "edge_converged": pairs.converged[0],
            "excluded": pairs.excluded,
        }
        if count > 1:
            records |= {"edge_ratios": ratios, "edge_residuals": pairs.residual, "edges_converged": pairs.converged}
        return memory, records

    return Observer(observe, lambda params: begin_track(params, count), needs_edge=True)


def _midpoint_edge_ratio(count: int) -> Observer:
    """As `edge_ratio`, with the Hessian at the midpoint and P that of the step at the iterate."""

    def observe(memory: PyTree, moment: Moment) -> tuple[PyTree, dict[str, Array]]:
        matvec, inverse = preconditioned_hessian(moment, moment.problem.hessian(moment.midpoint))
        pairs, memory = tracked(memory, matvec, moment.params, inverse)
        ratios = pairs.value / _threshold(moment, pairs.value.dtype)
        records = {
            "midpoint_edge_ratio": ratios[0],
            "midpoint_edge_residual": pairs.residual[0],
            "midpoint_edge_converged": pairs.converged[0],
        }
        if count > 1:
            records |= {
                "midpoint_edge_ratios": ratios,
                "midpoint_edge_residuals": pairs.residual,
                "midpoint_edges_converged": pairs.converged,
            }
        return memory, records

    return Observer(observe, lambda params: begin_track(params, count), needs_edge=True)


CRITICAL = 0.9
"""The edge ratio above which a direction is recorded: below `toylab.rules.edge.AT_EDGE`, so that the record begins
before a direction arrives there."""


def _critical(count: int) -> Observer:
    """The eigenvalues of P^-1 H above 0.9 of the threshold, over it: `critical_ratios` (count,), NaN from the first one
    below; only those that exceed it, and one more, cost products."""

    def observe(memory: PyTree, moment: Moment) -> tuple[PyTree, dict[str, Array]]:
        matvec, inverse = preconditioned_hessian(moment, moment.hvp)
        threshold = _threshold(moment, moment.loss.dtype)
        pairs, memory = tracked(memory, matvec, moment.params, inverse, CRITICAL * threshold)
        records = {
            "critical_ratios": pairs.value / threshold,
            "critical_residuals": pairs.residual,
            "critical_products": pairs.products,
            "critical_converged": pairs.converged,
        }
        return memory, records

    return Observer(observe, lambda params: begin_track(params, count), needs_edge=True)


def _threshold(moment: Moment, dtype: Any) -> Array:
    assert moment.edge is not None, "prepared for every run that observes the edge ratio"
    return jnp.asarray(moment.edge.threshold, dtype=dtype)


OBSERVERS = {
    "sharpness": _sharpness,
    "midpoint_sharpness": _midpoint_sharpness,
    "edge_ratio": _edge_ratio,
    "midpoint_edge_ratio": _midpoint_edge_ratio,
    "critical": _critical,
}
