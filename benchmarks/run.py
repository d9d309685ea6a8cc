"""Runs the benchmarks and writes benchmarks/results.json: `python benchmarks/run.py [--quick]`."""

import json
import os
import platform
import sys
from pathlib import Path

import edge_ratio
import jax

BENCHMARKS = (edge_ratio,)


def main() -> None:
    """All rows, printed as they come and written at the end."""
    jax.config.update("jax_enable_x64", True)
    quick = "--quick" in sys.argv[1:]
    rows = []
    for benchmark in BENCHMARKS:
        for row in benchmark.rows(quick):
            rows.append(row)
            print(f"{row['name']:92s} {row['measured']:8.2f} {row['unit']}, error {row['accuracy']}", flush=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    path = Path(__file__).with_name("results.json")
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
