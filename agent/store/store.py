"""The store of a project: one SQLite file with every study, trial, curve, proposal, decision, prompt and answer."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tunewright.agent.store.buffer import PointBuffer
from tunewright.agent.store.codec import Cleaner, Redact, loads
from tunewright.agent.store.connection import Connection
from tunewright.agent.store.glance import Glances
from tunewright.agent.store.replay import rebuild


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Event:
    """One change of state. `number` is the trial's, None when it concerns the study."""

    id: int
    study_id: int
    number: int | None
    kind: str
    payload: dict[str, Any]
    created: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that holds the words searched for. `kind` says what `ref` is: for a rationale or reason the proposal's
    id, for an error the trial's number, for an answer or call_error the call's id."""

    kind: str
    study_id: int
    number: int | None
    ref: int
    snippet: str


class Store(Glances):
    """Safe to share between threads. A forked child uses it on a connection of its own.

    Every method that changes state is one transaction: when it returns, the change is on the disk; when it raises,
    nothing changed. Reports alone are written a little later, see `report`.
    """

    @classmethod
    def open(
        cls,
        path: str | Path | None,
        *,
        read_only: bool = False,
        redact: Redact = _as_it_is,
        clock: Callable[[], float] = time.time,
    ) -> Store:
        """Opens or makes the file; None keeps everything in memory. `redact` is applied to every free text written.

        Raises FixDatabasePath, RestoreDatabase, UnlockDatabase or UpgradeSQLite.
        """
        place = None if path in (None, ":memory:") else Path(path)
        store = cls(Connection(place, read_only=read_only), clock, Cleaner(redact))
        if not read_only:
            store._abandon_dead_calls()
        return store

    def __init__(self, connection: Connection, clock: Callable[[], float], cleaner: Cleaner):
        super().__init__(connection, clock, cleaner)
        self._finalizer = weakref.finalize(self, _close, connection, self._buffer)  # runs at exit at the latest

    def close(self) -> None:
        """Writes what waits and closes the file. A second close does nothing."""
        self._finalizer()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path | None:
        return self._connection.path

    @property
    def journal_mode(self) -> str:
        """ "wal", "delete" or "memory"."""
        return self._connection.journal_mode

    def events(
        self, study_id: int, after: int = 0, limit: int | None = None, *, number: int | None = None
    ) -> list[Event]:
        """In the order in which they happened, of one trial where `number` is given; `after` is the id of the last one
        known."""
        columns = "id, study, number, kind, payload, created"
        where = "study = ?1 AND id > ?2" + ("" if number is None else " AND number = ?4")
        sql = f"SELECT {columns} FROM events WHERE {where} ORDER BY id LIMIT ?3"
        arguments = [study_id, after, -1 if limit is None else limit, *([] if number is None else [number])]
        with self._connection.read() as db:
            rows = db.execute(sql, arguments).fetchall()
        return [Event(row[0], row[1], row[2], row[3], loads(row[4]), row[5]) for row in rows]

    def search(self, text: str, limit: int = 20, *, study_id: int | None = None) -> list[Hit]:
        """Texts that hold every word, best match first. The words are plain: no query syntax."""
        words = [word.replace('"', '""') for word in text.split()]
        if not words:
            return []
        sql = """
        SELECT kind, study, number, ref, snippet(texts, 0, '', '', '…', 24) FROM texts
        WHERE texts MATCH ? AND (?2 IS NULL OR study = ?2) ORDER BY rank, rowid LIMIT ?3
        """
        query = " ".join(f'"{word}"' for word in words)
        with self._connection.read() as db:
            return [Hit(*row) for row in db.execute(sql, [query, study_id, limit])]

    def integrity(self) -> list[str]:
        """Everything that is wrong with the file; empty when nothing is. Reads all of it."""
        problems = []
        with self._connection.read() as db:
            problems += [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
            for table, row_id, parent, _ in db.execute("PRAGMA foreign_key_check"):
                problems.append(f"{table} row {row_id} points to a missing row of {parent}")
        for study in self.studies():
            rebuilt = rebuild(self.events(study.id))
            stored = {trial.number: trial for trial in self.trials(study.id)}
            for number in sorted(rebuilt.keys() | stored.keys()):
                if rebuilt.get(number) != stored.get(number):
                    problems.append(f"study {study.name}: trial {number} is not what its events say")
        return problems


def _close(connection: Connection, buffer: PointBuffer) -> None:
    try:
        buffer.close()
    finally:
        connection.close()
