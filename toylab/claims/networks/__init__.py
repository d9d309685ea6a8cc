"""What small networks do at the edge: where they settle, what holds them there, what blocks them."""

PARTS = ("table",)
"""Modules without claims."""
