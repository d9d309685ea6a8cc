"""What a loss is near a point: its Taylor expansion there, from its code or in symbols."""
