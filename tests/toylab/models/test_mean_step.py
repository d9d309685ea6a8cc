"""Which rules are plain gradient descent."""

import numpy as np
import optax
import pytest

from toylab.models.mean_step import plain_learning_rate
from toylab.rules.edge import EdgeData, RuleStructure
from toylab.rules.parities import Roles

NONE = Roles((), (), ())
PLAIN = EdgeData(threshold=20.0, impulse=0.1, coupled=0.0, gain=0.1)


@pytest.mark.parametrize(
    ("structure", "numbers"),
    [
        (RuleStructure(NONE._replace(fast=(0,)), 0), PLAIN),
        (RuleStructure(NONE._replace(slow=(0,)), 0), PLAIN),
        (RuleStructure(NONE, 1), PLAIN),
        (RuleStructure(NONE, 0), PLAIN._replace(coupled=0.01)),
        (RuleStructure(NONE, 0), PLAIN._replace(decay=0.01)),
    ],
)
def test_memory_delay_and_decay_are_not_plain(structure, numbers):
    with pytest.raises(ValueError, match=r"a model: got .* needs plain gradient descent"):
        plain_learning_rate(optax.sgd(0.1), np.zeros(1), (structure, numbers), "a model")


def test_without_them_it_is_the_learning_rate():
    assert plain_learning_rate(optax.sgd(0.1), np.zeros(1), (RuleStructure(NONE, 0), PLAIN), "a model") == 0.1
