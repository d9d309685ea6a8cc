"""What holds a run at its edge, for gradient descent and for any rule: orbits, their drift, where they settle."""
