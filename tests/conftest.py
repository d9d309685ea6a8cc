"""Strict numerics in every test: 64-bit, no implicit rank promotion; warnings are errors (pyproject.toml)."""

import os

# Nearly all time goes into compiling programs that run once: optimizing them costs more than it saves here.
os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0")

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# An example's first call compiles, so its time says nothing about the code: no deadline, nothing is too slow.
_base = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("dev", _base, max_examples=30)
settings.register_profile("ci", _base, max_examples=30, derandomize=True)
settings.register_profile("all", _base, max_examples=300)
# `--hypothesis-profile=NAME` is read after this file and wins.
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture
def key() -> jax.Array:
    """The one source of randomness in tests that do not use hypothesis: split it, never make another."""
    return jax.random.key(0)
