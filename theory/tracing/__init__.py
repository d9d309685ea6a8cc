"""From JAX code to SymPy: the interpreter of jaxprs, a factory's step with its hyperparameters as symbols, and what is
found out about its state."""
