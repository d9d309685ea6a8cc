"""How near models of the averaged path stay to the optimizer, on toys where it is known and on networks."""

PARTS = ("table",)
"""Modules without claims."""
