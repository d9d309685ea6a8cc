"""What happens far above the edge of a two-layer linear net: the exact map, its windows, where a catapult lands."""
