"""What is measured while training. A module of this package that declares `OBSERVERS` adds to the choice."""

from toylab.observing.chosen import Observers, observers
from toylab.observing.discovery import OBSERVERS
from toylab.observing.observer import Moment, Observer, stateless

__all__ = ["OBSERVERS", "Moment", "Observer", "Observers", "observers", "stateless"]
