"""Runs the models beside the optimizers into toylab/claims/flows/models.json, keeping what is finished: `make models`.

Hours on two cores.  Comparisons that the file already has for equal settings are not run again.
"""

import datetime
import json
import sys
from pathlib import Path

import jax

from toylab.claims.flows.table import missing, record
from toylab.training.environment import environment_record


def main(path: Path) -> None:
    """Write the records to `path` after each one."""
    jax.config.update("jax_enable_x64", True)
    records = json.loads(path.read_text())["records"] if path.exists() else []
    for setting in missing(records):
        environment = environment_record(seed=0, tier="long", sabotage=False)
        records.append({**record(setting), "environment": environment})
        content = {"date": datetime.date.today().isoformat(), "records": records}
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        print(setting.label, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "toylab/claims/flows/models.json"))
