"""`toylab edge PROBLEM RULE`: how far from the edge, and the largest learning rate that is stable now."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from toylab.commands.parts.arguments import Experiment, add_experiment, experiment, plain
from toylab.commands.parts.progress import progress_bar
from toylab.commands.parts.refusal import BadInput
from toylab.commands.parts.settings import LEARNING_RATES

PLACES = "at the start, after --steps N of training, or at the weights of --run FILE"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_experiment(parser, steps=0)
    parser.add_argument("--run", metavar="FILE", help="look at the last weights of this saved run (rule's state fresh)")
    parser.set_defaults(none_is_fine=True)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 with the answer. **Errors:** `BadInput`, also for a rule without a linear edge, with the reason."""
    with contextlib.redirect_stdout(sys.stderr):
        if options.run and options.steps:
            raise BadInput("--run and --steps were both given", f"look {PLACES}")
        setup = experiment(options)
        problem = setup.built_problem()
        _linear(setup)
        params, state, reached = _place(setup, problem, options)
        record = {**setup.named_settings(), **reached, **_measured(setup, problem, params, state)}
    if options.json:
        print(json.dumps(plain(record), allow_nan=False))
    else:
        print("\n".join(_lines(record)))
    return 0


def _linear(setup: Experiment) -> None:
    """**Errors:** `BadInput` with the reason if the rule has no linear edge."""
    from toylab.rules.errors import NoLinearEdge
    from toylab.rules.filter import held_filter
    from toylab.training.step_limits import REFERENCE

    trial = {name: REFERENCE for name in setup.rule.required() if name in LEARNING_RATES}
    setup.require({**trial, **setup.rule_settings})
    try:
        held_filter(setup.rule.called({**trial, **setup.rule_settings}))
    except NoLinearEdge as refusal:
        raise BadInput(f"{setup.rule.name} has no linear edge: {refusal.reason}", refusal.hint) from refusal


def _place(setup: Experiment, problem: Any, options: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    """Where to look: weights, the rule's state (None: fresh), and what led there."""
    if options.run:
        return _stored(options.run, problem), None, {"run": options.run, "taken": None, "status": None}
    if not options.steps:
        return problem.params, None, {"taken": 0, "status": None}
    import toylab
    from toylab.training.records import Status

    transform = setup.transform()
    try:
        with progress_bar(f"{setup.rule.name} on {setup.problem.name}", options.steps) as shown:
            ended = toylab.train(
                problem, transform, options.steps, every=max(1, options.steps // 50), progress=shown,
                batch_size=options.batch_size, batch_seed=setup.seed,
            )  # fmt: skip
    except ValueError as error:
        raise BadInput(str(error), "see toylab edge --help") from error
    if ended.status == Status.nonfinite_input:
        raise BadInput("the loss or its gradient is not finite at the start", "look at the problem's settings")
    return ended.params, ended.state, {"taken": ended.taken, "status": ended.status.name}


def _stored(path: str, problem: Any) -> Any:
    """The last weights of a saved run. **Errors:** `BadInput` for a file that is none, or of another problem."""
    import jax
    import jax.numpy as jnp

    import toylab

    try:
        loaded = toylab.load(path)
    except (OSError, ValueError) as error:
        reason = f"there is no file {path}" if isinstance(error, FileNotFoundError) else str(error)
        raise BadInput(reason, "give a file that toylab train wrote") from error
    if isinstance(loaded, toylab.Sweep):
        raise BadInput(f"{path} holds a sweep of many runs, needed one run", "give a file that toylab train wrote")
    leaves, (wanted, tree) = jax.tree.leaves(loaded.params), jax.tree.flatten(problem.params)
    shapes, needed = ([jnp.shape(leaf) for leaf in one] for one in (leaves, wanted))
    if shapes != needed:
        raise BadInput(f"{path} has weights of shapes {shapes}, the problem {needed}", "give it the run's own settings")
    return jax.tree.unflatten(tree, [jnp.asarray(a, b.dtype) for a, b in zip(leaves, wanted, strict=True)])


def _measured(setup: Experiment, problem: Any, params: Any, state: Any) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    import toylab
    from toylab.training.step_limits import preconditioned_eigenpair

    pair = preconditioned_eigenpair(problem, params, jax.tree.map(jnp.ones_like, params), 0.0)
    try:
        limit = toylab.max_learning_rate(problem, setup.rule.factory, params, state, **setup.rule_settings)
    except ValueError as error:
        raise BadInput(str(error), f"look {PLACES}") from error
    chosen = any(name in setup.rule_settings for name in LEARNING_RATES)
    chosen = chosen or not any(name in LEARNING_RATES for name in setup.rule.required())
    return {
        "loss": float(problem.value(params)),
        "sharpness": float(pair.value),
        "sharpness_residual": float(pair.residual),
        "preconditioned_sharpness": limit.preconditioned_sharpness,
        "preconditioned_residual": limit.residual,
        "learning_rate": limit.reference if chosen else None,
        "threshold": limit.threshold if chosen else None,
        "edge_ratio": limit.edge_ratio if chosen else None,
        "max_learning_rate": limit.learning_rate,
        "lower": limit.lower,
        "upper": limit.upper,
        "excluded": limit.excluded,
    }


def _lines(record: dict[str, Any]) -> Iterator[str]:
    place = (
        f"at the weights of {record['run']}, the rule's state fresh" if record.get("run")
        else f"after {record['taken']} steps" if record["taken"] else "at the start"
    )  # fmt: skip
    ended = f" ({record['status']})" if record["status"] not in (None, "completed") else ""
    yield f"{record['rule']} on {record['problem']}, {place}{ended}"
    yield f"loss                          {record['loss']:.6g}"
    yield f"sharpness                     {_bar(record['sharpness'], record['sharpness_residual'])}"
    bar = _bar(record["preconditioned_sharpness"], record["preconditioned_residual"])
    yield f"preconditioned sharpness      {bar}"
    if record["edge_ratio"] is not None:
        rate = f"threshold {record['threshold']:.6g} at learning rate {record['learning_rate']:.6g}"
        yield f"edge ratio                    {record['edge_ratio']:.6g}  ({rate})"
    limit = f"{record['max_learning_rate']:.7g}  (at least {record['lower']:.7g}, at most {record['upper']:.7g})"
    yield f"largest stable learning rate  {limit}"
    if record["excluded"]:
        yield f"excluded                      {record['excluded']} weights without a preconditioner"


def _bar(value: float, residual: float) -> str:
    return f"{value:.6g}  (relative residual {residual:.1e})"
