"""From JAX code to SymPy: the interpreter of jaxprs, a factory's step with its hyperparameters as symbols,
and the roles of its state leaves."""
