"""The schema's versions and the way from each to the next."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from tunewright.agent.errors import FixDatabasePath, RestoreDatabase, UpgradeSQLite

APPLICATION_ID = 0x54756E65  # "Tune"


def _create(database: Any) -> None:
    if not any(row[0] == "fts5" for row in database.execute("PRAGMA module_list")):
        raise UpgradeSQLite("this SQLite was built without full-text search", fix="pip install pysqlite3")
    _run(database, "schema_1.sql")
    database.execute("INSERT INTO meta VALUES ('made_by', ?)", [version("tunewright")])


def _leases(database: Any) -> None:
    _run(database, "schema_2.sql")
    add_up_training(database)


def add_up_training(database: Any) -> None:
    """Writes how long each trial trained, which files of schema 1 tell in their events alone."""
    kinds = ("created", "recovered", "changed", "resumed", "requeued", "paused", "finished")
    named = ", ".join(f"'trial_{kind}'" for kind in kinds)
    sql = f"SELECT study, number, kind, payload, created FROM events WHERE kind IN ({named}) ORDER BY id"
    began: dict[tuple[int, int], float] = {}
    trained: dict[tuple[int, int], float] = {}
    for study, number, kind, payload, created in database.execute(sql).fetchall():
        facts, trial = json.loads(payload), (study, number)
        if kind in ("trial_paused", "trial_finished"):
            run = facts.get("finished", created) - began.pop(trial, math.inf)
            trained[trial] = trained.get(trial, 0.0) + max(run, 0.0)
        elif facts.get("state", "running") != "running":
            began.pop(trial, None)
        else:
            began[trial] = facts.get("started") or facts.get("created", created)
    for (study, number), seconds in trained.items():
        database.execute("UPDATE trials SET trained = ? WHERE study = ? AND number = ?", [seconds, study, number])


def _run(database: Any, script: str) -> None:
    database.executescript(files("tunewright.agent.store").joinpath(script).read_text(encoding="utf-8"))


MIGRATIONS: tuple[Callable[[Any], None], ...] = (_create, _leases)
"""MIGRATIONS[v] turns a file of schema v into one of schema v + 1. A released one never changes."""

VERSION = len(MIGRATIONS)


def is_empty(database: Any) -> bool:
    return not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]


def check(database: Any, path: Path, read_only: bool) -> None:
    """Raises FixDatabasePath for another program's database and for a newer schema. Changes nothing."""
    where: dict[str, Any] = {"field": "store", "value": str(path)}
    empty = is_empty(database)
    if empty and read_only:
        raise FixDatabasePath("holds nothing yet", **where, fix="open it writable once")
    if not empty and _pragma(database, "application_id") != APPLICATION_ID:
        raise FixDatabasePath("is another program's database", **where, fix="another path")
    found = _pragma(database, "user_version")
    if found < 1 and not empty:
        raise RestoreDatabase("the file is damaged (it lacks its schema version)", **where, fix="restore a copy")
    if found < VERSION and read_only:
        fix = f"`tunewright ls --store {path}` brings it up to date and keeps a copy"
        raise FixDatabasePath(f"has the older schema {found}", **where, fix=fix, schema=found, known=VERSION)
    if found > VERSION:
        message = f"was made by a newer release (schema {found}, this one knows {VERSION})"
        raise FixDatabasePath(message, **where, fix="pip install --upgrade tunewright", schema=found, known=VERSION)


def found_version(database: Any) -> int:
    """0 for an empty file."""
    return _pragma(database, "user_version")


def migrate(database: Any) -> None:
    """Brings the file to the current schema, within the caller's transaction."""
    found = _pragma(database, "user_version")
    if found == VERSION:
        return
    for step in MIGRATIONS[found:]:
        step(database)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", [str(VERSION)])


def _pragma(database: Any, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])
