"""Where a rule becomes unstable: its held step, the split into filter Q and preconditioner P, and the unit circle."""
