"""A loss near a point: its Taylor expansion, from its code or in symbols, and its mean gradient over an oscillation."""
