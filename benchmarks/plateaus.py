"""Runs every grid of the table of plateaus into docs/plateaus.json, keeping what is finished: `make plateaus`.

About half an hour on two cores. Rows that the file already has for equal settings are not run again.
"""

import datetime
import json
import sys
from pathlib import Path

import jax

from toylab.claims.networks.table import GRIDS, rows
from toylab.training.environment import environment_record


def main(path: Path) -> None:
    """Write the rows to `path` after each one."""
    jax.config.update("jax_enable_x64", True)
    records = json.loads(path.read_text())["rows"] if path.exists() else []
    for grid in GRIDS:
        if any(same(grid, one) for one in records):
            continue
        records += rows([grid])
        environment = environment_record(seed=0, tier="long", sabotage=False)
        content = {"date": datetime.date.today().isoformat(), "environment": environment, "rows": records}
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        print(grid.label, records[-1]["mean"], flush=True)


def same(grid, row: dict) -> bool:
    """Whether `row` is of this grid."""
    names = ("problem", "rule", "steps", "seeds", "every", "one_by_one", "single")
    given = {**grid.settings, "hidden": list(grid.settings["hidden"])} if "hidden" in grid.settings else grid.settings
    return (
        all(getattr(grid, name) == row[name] for name in names)
        and dict(given) == row["settings"]
        and dict(grid.fixed) == row["fixed"]
        and list(grid.learning_rates) == row["learning_rates"]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/plateaus.json"))
