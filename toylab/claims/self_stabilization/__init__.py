"""What holds a run at its edge: orbits of the cubic model, their drift and damping, where runs settle."""

PARTS = ("drawn_toys",)
"""Modules without claims."""
