"""A damaged or doubted file: what can be read goes into a new one, and trials are made anew from their events.

The old file is never written to. Trials, their values and their state follow from the append-only events, so the events
have the last word wherever both were read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.agent.errors import FixDatabasePath, RestoreDatabase
from tunewright.agent.records import TrialRecord
from tunewright.agent.store.codec import dumps, loads
from tunewright.agent.store.connection import open_raw, sqlite3
from tunewright.agent.store.migrations import VERSION, add_up_training
from tunewright.agent.store.replay import rebuild
from tunewright.agent.store.store import Store
from tunewright.engines.types import State

# Parents before children; the searchable texts are made anew.
TABLES = (
    "meta", "studies", "events", "trials", "values", "repeats", "metrics", "queue", "decisions", "prompts", "messages",
    "threads", "thread_messages", "llm_calls", "proposals", "resources",
)  # fmt: skip
WITHOUT_ROWID = {"meta": ("key",), "values": ("trial",), "metrics": ("trial",), "thread_messages": ("thread",)}
"""Tables that are read key by key: the leading column that groups their rows."""

FACTS = (
    "number", "attempt", "state", "params", "source", "proposer", "seed", "error", "fidelity", "resume_from", "created",
    "started", "finished", "event", "deaths", "trained", "device_seconds",
)  # fmt: skip
PAGE = 500
GIVE_UP_AFTER = 2_000  # rows in a row that cannot be read, behind which a table is taken to end


@dataclass(frozen=True, slots=True)
class Repaired:
    """Rows brought over by table, those that could not be read where that is known, and trials that the events
    corrected."""

    path: Path
    rows: Mapping[str, int]
    unread: Mapping[str, int]
    corrected: int


def check(path: Path) -> list[str]:
    """Everything that is wrong with a file, its trials held against their events; empty when nothing is."""
    try:
        with Store.open(path, read_only=True) as store:
            return store.integrity()
    except RestoreDatabase as error:
        return [error.message]


def salvage(source: Path, target: Path) -> Repaired:
    """Copies what can be read of `source`, however damaged, to the new file `target`. Raises FixDatabasePath."""
    if not source.is_file():
        raise FixDatabasePath("there is no such file", field="store", value=str(source), fix="check the path")
    if target.exists():
        raise FixDatabasePath("exists already", field="output", value=str(target), fix="another name")
    Store.open(target).close()
    rows, unread = {}, {}
    with contextlib.closing(open_raw(source, write=False)) as old, contextlib.closing(open_raw(target)) as new:
        new.execute("PRAGMA foreign_keys = OFF")
        new.execute("BEGIN")
        new.execute("DELETE FROM meta")
        for table in TABLES:
            reader = _Reader(old, table)
            rows[table] = _copy(new, table, reader)
            if reader.unread:
                unread[table] = reader.unread
            if table == "trials" and reader.columns and "trained" not in reader.columns:
                add_up_training(new)
        _recover(new)
        _drop_orphans(new)
        _index_texts(new)
        new.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", [str(VERSION)])
        new.execute("COMMIT")
    return Repaired(target, rows, unread, _follow_events(target))


class _Reader:
    """The readable rows of one table, in order. `unread` counts the places where reading failed."""

    def __init__(self, database: Any, table: str):
        self._database, self._table, self.unread = database, table, 0
        try:
            self.columns = [row[1] for row in database.execute(f"PRAGMA table_info('{table}')")]
        except sqlite3.DatabaseError:
            self.columns = []

    def rows(self) -> Iterator[Sequence[Any]]:
        if not self.columns:
            self.unread += 1
        elif self._table in WITHOUT_ROWID:
            yield from self._by_group(WITHOUT_ROWID[self._table][0])
        else:
            yield from self._by_rowid()

    def _by_rowid(self) -> Iterator[Sequence[Any]]:
        """Page by page; where a page cannot be read, row by row across the damage."""
        last, lost = -(2**62), 0
        while True:
            page = self._fetch("WHERE rowid > ? ORDER BY rowid LIMIT ?", [last, PAGE])
            if page is not None:
                if not page:
                    return
                for row in page:
                    yield row[1:]
                last, lost = page[-1][0], 0
                continue
            one = self._fetch("WHERE rowid = ?", [max(last, 0) + 1])
            last = max(last, 0) + 1
            if one:
                yield one[0][1:]
            if one is None:
                self.unread += 1
            lost = 0 if one else lost + 1
            if lost > GIVE_UP_AFTER:
                return

    def _by_group(self, key: str) -> Iterator[Sequence[Any]]:
        """Group by group, so that damage in one trial's curve costs no other's."""
        if self._table == "meta":
            keys: Sequence[Any] = [None]
        else:
            parent = "threads" if key == "thread" else "trials"
            keys = [row[0] for row in _Reader(self._database, parent).ids()]
        for value in keys:
            where, arguments = ("", []) if value is None else (f'WHERE "{key}" = ?', [value])
            found = self._fetch(where, arguments, rowid=False)
            if found is None:
                self.unread += 1
            yield from found or ()

    def ids(self) -> Iterator[Sequence[Any]]:
        place = self.columns.index("id")
        return ([row[place]] for row in self._by_rowid())

    def _fetch(self, where: str, arguments: Sequence[Any], *, rowid: bool = True) -> list[Any] | None:
        """None where SQLite says that the file is damaged."""
        names = ", ".join(f'"{column}"' for column in self.columns)
        sql = f'SELECT {"rowid, " if rowid else ""}{names} FROM "{self._table}" {where}'
        try:
            return list(self._database.execute(sql, arguments).fetchall())
        except sqlite3.DatabaseError:
            return None


def _copy(new: Any, table: str, reader: _Reader) -> int:
    """Brings the rows over that the schema accepts; damage can also show as a value that no column may hold."""
    count = 0
    names = ", ".join(f'"{column}"' for column in reader.columns)
    marks = ", ".join("?" * len(reader.columns))
    for row in reader.rows():
        try:
            new.execute(f'INSERT OR IGNORE INTO "{table}" ({names}) VALUES ({marks})', list(row))
            count += 1
        except sqlite3.DatabaseError:
            reader.unread += 1
    return count


def _recover(new: Any) -> None:
    """Trials that were read while their first or last event was not: an event of their own stands for it."""
    columns = ("id", "study", *FACTS)
    for row in new.execute(f"SELECT {', '.join(columns)} FROM trials").fetchall():
        facts = dict(zip(columns, row, strict=True))
        trial_id, study, number = facts.pop("id"), facts.pop("study"), facts["number"]
        begun = new.execute(
            "SELECT 1 FROM events WHERE study = ? AND number = ? AND kind = 'trial_created'", [study, number]
        ).fetchone()
        last = facts.pop("event")
        ended = last is None or new.execute("SELECT 1 FROM events WHERE id = ?", [last]).fetchone()
        if begun and ended:
            continue
        found = new.execute('SELECT value FROM "values" WHERE trial = ? ORDER BY objective', [trial_id]).fetchall()
        facts["values"] = [value for (value,) in found] or None
        if last is not None and facts["state"] != State.FAILED and not found:
            facts |= {"state": State.FAILED.value, "error": "its result was lost when the file was damaged"}
        facts["params"] = loads(facts["params"])
        event = new.execute(
            "INSERT INTO events (study, number, kind, payload, created) VALUES (?, ?, 'trial_recovered', ?, ?)",
            [study, number, dumps(facts, "event"), facts["finished"] or facts["created"]],
        ).lastrowid
        new.execute(
            "UPDATE trials SET state = ?, error = ?, event = ? WHERE id = ?",
            [facts["state"], facts["error"], None if last is None else event, trial_id],
        )


def _drop_orphans(new: Any) -> None:
    """Rows whose parent was lost."""
    new.execute("DROP TRIGGER events_last")
    while orphans := new.execute("PRAGMA foreign_key_check").fetchall():
        for table, row_id, _, _ in orphans:
            if row_id is not None:
                new.execute(f'DELETE FROM "{table}" WHERE rowid = ?', [row_id])
                continue
            key = WITHOUT_ROWID[table][0]
            parent = "threads" if key == "thread" else "trials"
            new.execute(f'DELETE FROM "{table}" WHERE "{key}" NOT IN (SELECT id FROM {parent})')
    new.execute(
        "CREATE TRIGGER events_last BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
    )


def _index_texts(new: Any) -> None:
    """The searchable texts from the rows that hold them."""
    for kind, sql in {
        "error": "SELECT error, study, number, number FROM trials WHERE error <> ''",
        "rationale": "SELECT rationale, study, number, id FROM proposals WHERE rationale <> ''",
        "reason": "SELECT reason, study, number, id FROM proposals WHERE reason <> ''",
        "answer": "SELECT answer, study, number, id FROM llm_calls WHERE answer <> ''",
        "call_error": "SELECT error, study, number, id FROM llm_calls WHERE error <> ''",
    }.items():
        for text, study, number, ref in new.execute(sql).fetchall():
            new.execute(
                "INSERT INTO texts (text, kind, study, number, ref) VALUES (?, ?, ?, ?, ?)",
                [text, kind, study, number, ref],
            )


def _follow_events(path: Path) -> int:
    """Makes the trials of a sound file what their events say. Returns how many were changed or brought back."""
    with Store.open(path) as store:
        wrong: list[tuple[int, TrialRecord, Mapping[str, Any]]] = []
        for study in store.studies():
            events = store.events(study.id)
            owners = {e.number: e.payload.get("owner", {}) for e in events if e.kind == "trial_created"}
            stored = {trial.number: trial for trial in store.trials(study.id)}
            for number, trial in rebuild(events).items():
                if stored.get(number) != trial:
                    wrong.append((study.id, trial, owners.get(number, {})))
        with store._connection.write() as db:
            for study_id, trial, owner in wrong:
                _write(db, study_id, trial, owner)
    return len(wrong)


def _write(db: Any, study_id: int, trial: TrialRecord, owner: Mapping[str, Any]) -> None:
    row = {
        "study": study_id, "number": trial.number, "attempt": trial.attempt, "state": trial.state.value,
        "params": dumps(dict(trial.params), "params"), "source": trial.source, "proposer": trial.proposer,
        "seed": trial.seed, "error": trial.error, "fidelity": trial.fidelity, "resume_from": trial.resume_from,
        "created": trial.created, "started": trial.started, "finished": trial.finished, "event": trial.event,
        "deaths": trial.deaths, "trained": trial.trained, "device_seconds": trial.device_seconds,
        **{name: owner.get(name) for name in ("owner_host", "owner_boot", "owner_pid", "owner_started")},
    }  # fmt: skip
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    changes = ", ".join(f"{name} = excluded.{name}" for name in row if not name.startswith("owner"))
    db.execute(
        f"INSERT INTO trials ({names}) VALUES ({marks}) ON CONFLICT (study, number) DO UPDATE SET {changes}", row
    )
    where = [study_id, trial.number]
    trial_id = db.execute("SELECT id FROM trials WHERE study = ? AND number = ?", where).fetchone()[0]
    db.execute('DELETE FROM "values" WHERE trial = ?', [trial_id])
    for objective, value in enumerate(trial.values or ()):
        db.execute('INSERT INTO "values" (trial, objective, value) VALUES (?, ?, ?)', [trial_id, objective, value])
