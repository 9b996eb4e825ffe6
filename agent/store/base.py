"""What the parts of the store share: the connection, the clock, the cleaner of texts and the event log's pen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from tunewright.agent.errors import UnknownTrial
from tunewright.agent.store.buffer import PointBuffer
from tunewright.agent.store.codec import Cleaner, dumps
from tunewright.agent.store.connection import Connection

INDEXED = 20_000
"""Characters of one text that full-text search sees."""


class Base:
    def __init__(self, connection: Connection, clock: Callable[[], float], cleaner: Cleaner):
        self._connection, self._clock, self._clean = connection, clock, cleaner
        self._buffer = PointBuffer(connection)
        self._monotonic = time.monotonic
        self._since: dict[tuple[int, int], tuple[int, float]] = {}  # (study, number) -> (attempt, when it began here)
        self._trial_rows: dict[tuple[int, int], int] = {}  # (study, number) -> trials.id, which never changes

    def _event(self, db: Any, study_id: int, number: int | None, kind: str, payload: Mapping[str, Any]) -> int:
        """Within the caller's transaction. The payload must be clean already."""
        row = [study_id, number, kind, dumps(payload, "event"), self._clock()]
        sql = "INSERT INTO events (study, number, kind, payload, created) VALUES (?, ?, ?, ?, ?)"
        return int(db.execute(sql, row).lastrowid)

    def _insert(self, db: Any, table: str, row: Mapping[str, Any]) -> int:
        """Within the caller's transaction; returns the new row's id. A None is left out: SQLite fills it in for less
        than the way of a None to it takes."""
        known = {name: value for name, value in row.items() if value is not None}
        return int(db.execute(_insertion(table, tuple(known)), tuple(known.values())).lastrowid)

    def _index(self, db: Any, text: str | None, kind: str, study_id: int, number: int | None, ref: int) -> None:
        """Makes a clean text findable. `ref` is the id of the row it stands in (a trial's is its number)."""
        if text:
            row = [text[:INDEXED], kind, study_id, number, ref]
            db.execute("INSERT INTO texts (text, kind, study, number, ref) VALUES (?, ?, ?, ?, ?)", row)

    def _trial_id(self, db: Any, study_id: int, number: int) -> int:
        row = db.execute("SELECT id FROM trials WHERE study = ? AND number = ?", [study_id, number]).fetchone()
        if row is None:
            raise UnknownTrial("there is no such trial", field="trial", value=number, fix="list them: tunewright show")
        return int(row[0])


@lru_cache(maxsize=64)
def _insertion(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
