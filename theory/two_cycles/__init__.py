"""Orbits of period two at the edge, for any rule that crosses it by a flip."""
