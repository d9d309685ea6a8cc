"""A built optimizer, analysed: roles of its state, held step, filter, preconditioner, and the edge that follows."""
