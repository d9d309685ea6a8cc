"""Numerical methods that know nothing of optimizers: complementarity over the semidefinite cone, stable integration."""
