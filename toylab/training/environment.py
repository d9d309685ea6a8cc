"""What a result depends on besides the claims: versions, devices, precision, seed, and the code itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("toylab", "jax", "jaxlib", "numpy", "optax", "scipy", "sympy")
"""The packages that numbers depend on: those of a run, and those of a theorem beside it."""


def environment_record(*, seed: int, tier: str, sabotage: bool) -> dict[str, Any]:
    """The `environment` of `toylab verify --json`. Starts JAX in order to name its devices."""
    return {
        "versions": versions(),
        "devices": devices(),
        "precision": precision(),
        "platform": f"{platform.system()} {platform.machine()}",
        "seed": seed,
        "tier": tier,
        "sabotage": sabotage,
        "code": code_fingerprint(),
    }


def versions() -> dict[str, str]:
    """Python and `PACKAGES` -> version; `not installed` where metadata is missing."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def devices() -> list[str]:
    """The devices that JAX computes on, e.g. `cpu` or `NVIDIA H100`, one entry each."""
    import jax

    return [device.device_kind for device in jax.devices()]


def precision() -> str:
    """`float64` or `float32`: the default precision of JAX as it is configured now."""
    import jax.numpy as jnp

    return str(jnp.result_type(float))


def code_fingerprint() -> str:
    """12 hexadecimal digits over the Python sources of toylab and theory: results of different code are not
    mixed.
    """
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("theory", "toylab"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
