"""The durable record of shares: SQLite, committed before anything is visible.

What the ledger says is what was promised; directories and processes are brought into line with it
after a restart. Only where it is lost or damaged do they have to say what was promised.
"""

import logging
import sqlite3
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from gpuslice_agent.errors import DamagedLedgerError, LedgerError
from gpuslice_agent.model import Limits, Owner, Share, ShareState

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE boot (id TEXT NOT NULL) STRICT;
CREATE TABLE shares (
  id TEXT PRIMARY KEY,
  gpu_uuid TEXT NOT NULL,
  limits TEXT NOT NULL,
  owner TEXT NOT NULL,
  created_at REAL NOT NULL,
  ending INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE context_overhead (
  gpu_uuid TEXT PRIMARY KEY,
  driver_version TEXT NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
"""
# What makes the next version of each; a new ledger goes through all of them.
MIGRATIONS = {
    1: "CREATE UNIQUE INDEX share_keys ON shares (nullif(json_extract(owner, '$.key'), ''))",
}


class Ledger:
    """Open for as long as the agent lives, and for it alone.

    A damaged one is set aside for whoever wants to know why, and begun anew: an agent that does not
    start helps nobody.
    """

    def __init__(self, state_dir: Path, boot_id: str) -> None:
        self._path = state_dir / "ledger.sqlite"
        with self._translated():
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._open(boot_id)
        except DamagedLedgerError as error:
            log.error("%s", error)
            self._set_aside()
            self._open(boot_id)

    @property
    def is_new(self) -> bool:
        """It knows nothing of shares that may be there all the same."""
        return self._is_new

    def _open(self, boot_id: str) -> None:
        with self._translated():
            self._database = sqlite3.connect(self._path, timeout=2, isolation_level=None)
        try:
            self._prepare(boot_id)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        self._database.close()

    def shares(self) -> tuple[Share, ...]:
        query = (
            "SELECT id, gpu_uuid, limits, owner, created_at, ending FROM shares ORDER BY created_at"
        )
        with self._translated():
            rows = self._database.execute(query).fetchall()
            return tuple(_share(*row) for row in rows)

    def insert(self, shares: Iterable[Share], revived: Iterable[str] = ()) -> None:
        """All or none. `revived`: those that were ending and are held on to after all."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE shares SET ending = 0 WHERE id = ?", [(one,) for one in revived]
            )
            database.executemany(
                "INSERT INTO shares (id, gpu_uuid, limits, owner, created_at) "
                "VALUES (?, ?, ?, ?, ?)",
                [(s.id, s.gpu_uuid, _text(s.limits), _text(s.owner), s.created_at) for s in shares],
            )

    def set_limits(self, share_id: str, limits: Limits) -> None:
        with self._transaction() as database:
            database.execute("UPDATE shares SET limits = ? WHERE id = ?", (_text(limits), share_id))

    def set_owner(self, share_id: str, owner: Owner) -> None:
        with self._transaction() as database:
            database.execute("UPDATE shares SET owner = ? WHERE id = ?", (_text(owner), share_id))

    def set_ending(self, share_ids: Iterable[str]) -> None:
        with self._transaction() as database:
            database.executemany(
                "UPDATE shares SET ending = 1 WHERE id = ?", [(one,) for one in share_ids]
            )

    def delete(self, share_ids: Iterable[str]) -> None:
        with self._transaction() as database:
            database.executemany("DELETE FROM shares WHERE id = ?", [(one,) for one in share_ids])

    def context_overhead(self, gpu_uuid: str) -> tuple[str, int] | None:
        """The driver version it was measured with and the bytes; None: not measured yet."""
        query = "SELECT driver_version, bytes FROM context_overhead WHERE gpu_uuid = ?"
        with self._translated():
            row = self._database.execute(query, (gpu_uuid,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]))

    def set_context_overhead(self, gpu_uuid: str, driver_version: str, size: int) -> None:
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO context_overhead VALUES (?, ?, ?)",
                (gpu_uuid, driver_version, size),
            )

    def _prepare(self, boot_id: str) -> None:
        with self._translated():
            # Exclusive: a second agent with this state directory is refused, and the log needs no
            # file of shared memory beside it.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            sound = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if sound != ("ok",):
            raise self._damaged(sound[0])
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"The ledger {self._path} was written by a newer gpuslice (version {version}, "
                f"this one knows {SCHEMA_VERSION}): install that one again."
            )
        self._is_new = bool(version == 0)
        with self._transaction() as database:
            if version == 0:
                for statement in SCHEMA.split(";"):
                    database.execute(statement)
            for passed in range(max(1, version), SCHEMA_VERSION):
                database.execute(MIGRATIONS[passed])
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._forget_before(boot_id)
        self.shares()

    def _forget_before(self, boot_id: str) -> None:
        """Owners that were processes did not survive a reboot, though their ids may be in use."""
        row = self._database.execute("SELECT id FROM boot").fetchone()
        if row == (boot_id,):
            return
        owned = "json_extract(owner, '$.pid') != 0"
        self._database.execute(f"DELETE FROM shares WHERE ending OR {owned}")
        self._database.execute("DELETE FROM boot")
        self._database.execute("INSERT INTO boot VALUES (?)", (boot_id,))

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # a full disk may have ended it already
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.IntegrityError) as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise LedgerError(
                    f"Another agent has the ledger {self._path}: stop it, or use another state_dir."
                ) from error
            raise LedgerError(
                f"The ledger {self._path} cannot be written: {error}; nothing was changed."
            ) from error
        except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
            raise self._damaged(error) from error
        except OSError as error:
            raise LedgerError(
                f"The ledger {self._path} cannot be made: {error.strerror}."
            ) from error

    def _damaged(self, reason: object) -> DamagedLedgerError:
        return DamagedLedgerError(
            f"The ledger {self._path} is damaged ({reason}): it is set aside, and shares are found "
            "again by their files."
        )

    def _set_aside(self) -> None:
        """With its log, which would be played into the new one otherwise."""
        moment = time.strftime("%Y%m%d-%H%M%S")
        with self._translated():
            for name in (self._path.name, f"{self._path.name}-wal"):
                with suppress(FileNotFoundError):
                    damaged = self._path.with_name(name)
                    damaged.rename(damaged.with_name(f"{name}.damaged-{moment}"))


def _text(value: Limits | Owner) -> str:
    return msgspec.json.encode(value).decode()


def _share(
    id: str, gpu_uuid: str, limits: str, owner: str, created_at: float, ending: int
) -> Share:
    share = Share(
        id=id,
        gpu_uuid=gpu_uuid,
        limits=msgspec.json.decode(limits, type=Limits),
        owner=msgspec.json.decode(owner, type=Owner),
        created_at=created_at,
    )
    return replace(share, state=ShareState.ENDING) if ending else share
