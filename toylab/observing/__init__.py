"""What is measured while training. A module of this package that declares `OBSERVERS`, name -> (option -> Observer),
adds to the choice.
"""

from toylab.observing.chosen import Observers, named_observers, observers
from toylab.observing.observer import Moment, Observer, stateless

__all__ = ["Moment", "Observer", "Observers", "named_observers", "observers", "stateless"]

PARTS = ("observer", "chosen", "tracking")
"""The modules that every observer is made of, which declare none."""
