"""`gpuslice diag` on the card: all passes, and what it measured is kept."""

import json
import os
import subprocess
from pathlib import Path

from .record import Record
from .tenants import GPUSLICE


def test_a_card_that_works_passes_everything(tmp_path: Path, record: Record) -> None:
    # An agent of its own: that of the other tests holds a share of this GPU.
    done = subprocess.run(
        [*GPUSLICE, "diag", "--level", "3", "--gpu", "0", "--seconds", "5", "--json"],
        env={**os.environ, "GPUSLICE_RUN_DIR": str(tmp_path / "run")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    (gpu,) = json.loads(done.stdout)["gpus"]
    for one in gpu["tests"]:
        if one["value"] is not None:
            record.measured(f"diag: {one['test']}", one["value"], one["unit"])
    assert done.returncode == 0, done.stdout
    skipped = [one for one in gpu["tests"] if one["outcome"] == "skip"]
    assert skipped == []
