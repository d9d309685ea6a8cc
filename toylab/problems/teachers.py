"""A network that learns what another one knows: regression with a solution that is known to exist."""

from collections.abc import Sequence

from jax import Array

from toylab.problems.datasets.synthetic import teacher_labels
from toylab.problems.networks.perceptrons import mlp
from toylab.problems.problem import Problem
from toylab.problems.supervised import learning_problem


def teacher_student(
    inputs: int = 10,
    teacher: Sequence[int] = (4,),
    hidden: Sequence[int] = (32,),
    examples: int = 200,
    seed: int | Array = 1,
    outputs: int = 1,
    activation: str = "tanh",
    scaling: str = "lecun",
    test_examples: int = 0,
    chunk: int | None = None,
) -> Problem:
    """A student network inputs-hidden-outputs on the answers of a teacher network inputs-teacher-outputs.

    Inputs are N(0, 1), labels the teacher's outputs without noise, both from a fixed seed of their own and used as
    drawn; so the loss, the mean over the examples of half the squared error, has the minimum 0 for a student at least
    as wide. The two have the same `activation` and N(0, 1/fan_in) weights, the student's by `scaling`; biases start
    at 0. `seed`: of the student's weights, an int or a JAX random key, which may be traced; with seed 0 and the widths
    of the teacher the student starts at the solution. `test_examples` more examples are not trained on.
    `params` is a tuple of (weight, bias) pairs; `data` is (inputs (n, inputs), labels (n, outputs)).

    Raises ValueError for sizes below one or unknown names.
    """
    ends = int(inputs), int(outputs)
    known, learnt = ((ends[0], *(int(width) for width in widths), ends[1]) for widths in (teacher, hidden))
    return learning_problem(
        "teacher_student",
        lambda: teacher_labels(mlp(known, activation), inputs, examples, test_examples),
        lambda: mlp(learnt, activation, scaling),
        seed=seed,
        chunk=chunk,
    )


PROBLEMS = {"teacher_student": teacher_student}
