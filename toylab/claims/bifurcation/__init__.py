"""What happens just above a flip: orbits of period two, their sizes and their stability."""

PARTS = ("balances",)
"""Modules without claims."""
