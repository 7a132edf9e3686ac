"""The shares of a node as its ledger has them."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec

from gpuslice_agent.model import Limits, Owner, Share, ShareState

NAME = "ledger.sqlite"


def shares(state: Path) -> tuple[Share, ...]:
    """From a copy: the agent keeps the ledger for itself as long as it lives."""
    with tempfile.TemporaryDirectory() as copied:
        for name in (NAME, f"{NAME}-wal"):
            if (state / name).exists():
                shutil.copy(state / name, copied)
        with closing(sqlite3.connect(Path(copied, NAME))) as database:
            rows = database.execute(
                "SELECT id, gpu_uuid, limits, owner, created_at, ending FROM shares"
            ).fetchall()
    return tuple(
        Share(
            id=name,
            gpu_uuid=gpu,
            limits=msgspec.json.decode(limits, type=Limits),
            owner=msgspec.json.decode(owner, type=Owner),
            created_at=created,
            state=ShareState.ENDING if ending else ShareState.READY,
        )
        for name, gpu, limits, owner, created, ending in rows
    )
